"""Stacked LSTM of Zaremba et al. 2014, as in Selfish-RNN section 4.1."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparse_rnn.core.declarations import Structures
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import register
from sparse_rnn.models.base import Decoder, Hidden, LanguageModel
from sparse_rnn.models.checks import check_dropouts, check_init_range, check_sizes
from sparse_rnn.models.initialisation import init_embedding_and_decoder, init_uniform
from sparse_rnn.models.layers.adaptive import NARROWEST, AdaptiveDecoder
from sparse_rnn.models.layers.lstm import LSTM

DECODERS = ("full", "adaptive")


@register("model", "stacked_lstm")
@dataclass
class StackedLSTMConfig:
    """A language model of torch's LSTM (Zaremba et al. 2014), with one dropout rate at all places.

    hidden: units of each layer, and dimensions of the embedding. layers: how many layers. dropout: of the embedding,
    between layers and of the output, drawn anew at every time step.
    init_range: all parameters start in U(+-init_range) (Zaremba et al. 2014: 0.04), instead of as described at
    StackedLSTM. decoder: full, or adaptive for a vocabulary of hundreds of thousands of words, see AdaptiveDecoder.
    """

    task: ClassVar[str] = "language_modelling"

    name: str = "stacked_lstm"
    hidden: int = 1500
    layers: int = 2
    dropout: float = 0.65
    init_range: float | None = None
    decoder: str = "full"

    def __post_init__(self) -> None:
        check_sizes(hidden=self.hidden, layers=self.layers)
        check_dropouts(dropout=self.dropout)
        check_init_range(self.init_range)
        if self.decoder not in DECODERS:
            raise ConfigError(f"model.decoder={self.decoder} must be one of {', '.join(DECODERS)}.")
        if self.decoder == "adaptive" and self.hidden < NARROWEST:
            raise ConfigError(f"model.decoder=adaptive needs a model.hidden of at least {NARROWEST}.")

    def build(self, vocabulary: int) -> "StackedLSTM":
        """The model for a vocabulary of so many words."""
        return StackedLSTM(self, vocabulary)


class StackedLSTM(LanguageModel):
    """Embedding, LSTM and linear or adaptive decoder, untied.

    Dropout is drawn anew at every time step: on the embedding, between the layers and on the output. Embedding and
    decoder start in U(+-0.1), the decoder's bias at zero, the LSTM and an adaptive decoder as in torch.
    """

    def __init__(self, config: StackedLSTMConfig, vocabulary: int) -> None:
        super().__init__()
        self.hidden, self.layers = config.hidden, config.layers
        self.embedding = nn.Embedding(vocabulary, config.hidden)
        between = config.dropout if config.layers > 1 else 0.0
        self.lstm = LSTM(config.hidden, config.hidden, config.layers, dropout=between)
        self.dropout = nn.Dropout(config.dropout)
        if config.decoder == "adaptive":
            self.decoder = AdaptiveDecoder(config.hidden, vocabulary)  # type: ignore[assignment]
            nn.init.uniform_(self.embedding.weight, -0.1, 0.1)
        else:
            self.decoder = Decoder(config.hidden, vocabulary)
            init_embedding_and_decoder(self.embedding, self.decoder)
        if config.init_range is not None:
            init_uniform(self, config.init_range)

    def structures(self) -> list[Structures]:
        """A unit has its row of each gate of both weights, its column of the recurrent weight, and its column of the
        weight that reads it: the next layer's, or the decoder's."""
        names = [(f"lstm.weight_ih_l{k}", f"lstm.weight_hh_l{k}") for k in range(self.layers)]
        readers = [*(of_input for of_input, _ in names[1:]), "decoder.weight"]
        return [
            Structures(f"lstm.l{k}", self.hidden, (of_input, recurrent), (recurrent, reader))
            for k, ((of_input, recurrent), reader) in enumerate(zip(names, readers, strict=True))
        ]

    def initial_hidden(self, batch: int) -> Hidden:
        """(h, c), each zeros [layers, batch, hidden]."""
        zeros = self.embedding.weight.new_zeros(self.layers, batch, self.hidden)
        return zeros, zeros.clone()

    def forward(self, tokens: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """See LanguageModel."""
        output, hidden = self.lstm(self.dropout(self.embedding(tokens)), hidden)
        return self.dropout(output), hidden

    @torch.no_grad()
    def layer_states(self, tokens: Tensor, hidden: Hidden) -> tuple[list[Tensor], Hidden]:
        """See LanguageModel."""
        inputs, states, carried = self.embedding(tokens), [], []
        for layer, (h, c) in enumerate(zip(*hidden, strict=True)):
            inputs, state = self.lstm.run_layer(layer, inputs, (h[None], c[None]))
            states.append(inputs)
            carried.append(state)
        h, c = (torch.cat(part) for part in zip(*carried, strict=True))
        return states, (h, c)

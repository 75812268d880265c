"""ON-LSTM, the LSTM with ordered neurons (Shen et al. 2019), as in Selfish-RNN section 4."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import register
from sparse_rnn.models.base import Decoder, Hidden, LanguageModel
from sparse_rnn.models.checks import check_dropouts, check_penalties, check_sizes
from sparse_rnn.models.initialisation import init_embedding_and_decoder
from sparse_rnn.models.layers.activation_penalty import activation_penalty
from sparse_rnn.models.layers.dropout import LockedDropout, embed_with_word_dropout
from sparse_rnn.models.layers.ordered_neurons import ONLSTMLayer


@register("model", "on_lstm")
@dataclass
class ONLSTMConfig:
    """A language model of ordered neurons (Shen et al. 2019), with a tied embedding.

    embedding: dimensions of the embedding, and units of the last layer. hidden: units of the other layers. layers: how
    many layers. dropout_word: the share of words whose embedding is dropped. dropout_input, dropout_hidden,
    dropout_output: of the embedding, between layers and of the output, with one mask for a whole window.
    chunk: how many units share one value of a master gate. drop_connect: the share of recurrent weights dropped in
    training. activation_penalty, temporal_penalty: the weights of AR and TAR of Merity et al. 2017.
    """

    task: ClassVar[str] = "language_modelling"

    name: str = "on_lstm"
    embedding: int = 400
    hidden: int = 1150
    layers: int = 3
    chunk: int = 10
    dropout_word: float = 0.1
    dropout_input: float = 0.5
    dropout_hidden: float = 0.3
    dropout_output: float = 0.45
    drop_connect: float = 0.45
    activation_penalty: float = 2.0
    temporal_penalty: float = 1.0

    def __post_init__(self) -> None:
        check_sizes(embedding=self.embedding, hidden=self.hidden, layers=self.layers, chunk=self.chunk)
        check_dropouts(**{key: value for key, value in vars(self).items() if key.startswith("drop")})
        for key in ("embedding", "hidden"):
            if getattr(self, key) % self.chunk:
                raise ConfigError(f"model.{key}={getattr(self, key)} must be a multiple of model.chunk={self.chunk}.")
        check_penalties(activation_penalty=self.activation_penalty, temporal_penalty=self.temporal_penalty)

    def build(self, vocabulary: int) -> "ONLSTM":
        """The model for a vocabulary of so many words."""
        return ONLSTM(self, vocabulary)


class ONLSTM(LanguageModel):
    """Embedding tied with the decoder, and layers of ordered neurons, which start as nn.Linear does."""

    def __init__(self, config: ONLSTMConfig, vocabulary: int) -> None:
        super().__init__()
        self.dropout_word = config.dropout_word
        self.penalties = config.activation_penalty, config.temporal_penalty
        widths = [config.embedding] + [config.hidden] * (config.layers - 1) + [config.embedding]
        self.widths = widths[1:]
        self.embedding = nn.Embedding(vocabulary, config.embedding)
        self.layers = nn.ModuleList(
            ONLSTMLayer(inputs, hidden, config.chunk, config.drop_connect) for inputs, hidden in pairwise(widths)
        )
        self.decoder = Decoder(config.embedding, vocabulary)
        self.decoder.weight = self.embedding.weight
        self.dropout_input = LockedDropout(config.dropout_input)
        self.dropout_hidden = LockedDropout(config.dropout_hidden)
        self.dropout_output = LockedDropout(config.dropout_output)
        init_embedding_and_decoder(self.embedding, self.decoder)

    def initial_hidden(self, batch: int) -> Hidden:
        """(h, c) of each layer, zeros [batch, width of the layer]."""
        zeros = self.embedding.weight.new_zeros
        return [(zeros(batch, width), zeros(batch, width)) for width in self.widths]

    def states(self, tokens: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """The last layer's states before dropout [T, B, embedding], and the hidden state after the window."""
        embedded = embed_with_word_dropout(self.embedding, tokens, self.dropout_word, self.training)
        states, carried = self.dropout_input(embedded), []
        for k, (layer, state) in enumerate(zip(self.layers, hidden, strict=True)):
            states, last = layer(self.dropout_hidden(states) if k else states, state, self.training)
            carried.append(last)
        return states, carried

    def forward(self, tokens: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """See LanguageModel."""
        states, hidden = self.states(tokens, hidden)
        return self.dropout_output(states), hidden

    def training_loss(self, tokens: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Tensor | None, Hidden]:
        """See LanguageModel; AR and TAR are of the states before dropout, as in the published code."""
        states, hidden = self.states(tokens, hidden)
        loss = self.loss(self.dropout_output(states), targets)
        return loss, activation_penalty(states, states, *self.penalties), hidden

    @torch.no_grad()
    def layer_states(self, tokens: Tensor, hidden: Hidden) -> tuple[list[Tensor], Hidden]:
        """See LanguageModel."""
        inputs, states, carried = self.embedding(tokens), [], []
        for layer, state in zip(self.layers, hidden, strict=True):
            inputs, last = layer(inputs, state, training=False)
            states.append(inputs)
            carried.append(last)
        return states, carried

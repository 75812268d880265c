"""Language model and text classifier around any recurrent layer: what a network shares with all others."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparse_rnn.models.base import Decoder, Hidden, LanguageModel, TextClassifier
from sparse_rnn.models.checks import check_dropouts, check_sizes
from sparse_rnn.models.initialisation import init_embedding_and_decoder
from sparse_rnn.models.layers.inputs import embed
from sparse_rnn.models.layers.recurrent import RecurrentLayer, RecurrentStack


@dataclass
class RecurrentConfig:
    """Embedding, layers of one kind, and a decoder, with one dropout rate at all places.

    hidden: features of each layer, and dimensions of the embedding. layers: how many layers. dropout: of what each
    layer reads, and of the output, drawn anew at every time step.
    residual: whether layers are added to what they read, see RecurrentStack.
    """

    residual: ClassVar[bool] = True

    hidden: int = 1500
    layers: int = 2
    dropout: float = 0.65

    def __post_init__(self) -> None:
        check_sizes(hidden=self.hidden, layers=self.layers)
        check_dropouts(dropout=self.dropout)
        self.check(self.hidden)

    def check(self, width: int) -> None:
        """Refuse settings of the layer that are out of range; raises ConfigError."""

    def layer(self, width: int) -> RecurrentLayer:
        """A new layer of `width` features."""
        raise NotImplementedError

    def stack(self) -> RecurrentStack:
        """All layers."""
        layers = [self.layer(self.hidden) for _ in range(self.layers)]
        return RecurrentStack(layers, self.hidden, self.dropout, residual=self.residual)


@dataclass
class RecurrentLMConfig(RecurrentConfig):
    """Of a language model; by default of the size of Selfish-RNN's stacked LSTM, so that networks can be compared."""

    task: ClassVar[str] = "language_modelling"

    def build(self, vocabulary: int) -> "RecurrentLM":
        """The model for a vocabulary of so many words."""
        return RecurrentLM(self, vocabulary)


@dataclass
class RecurrentClassifierConfig(RecurrentConfig):
    """Of a text classifier; by default of the size of ST-RNN's LSTM classifier."""

    task: ClassVar[str] = "text_classification"

    hidden: int = 256
    layers: int = 1
    dropout: float = 0.0

    def build(self, vocabulary: int, classes: int) -> "RecurrentClassifier":
        """The model for a vocabulary of so many words and so many classes."""
        return RecurrentClassifier(self, vocabulary, classes)


class RecurrentLM(LanguageModel):
    """Embedding, recurrent layers and linear decoder, untied; embedding and decoder start in U(+-0.1)."""

    def __init__(self, config: RecurrentConfig, vocabulary: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, config.hidden)
        self.stack = config.stack()
        self.decoder = Decoder(config.hidden, vocabulary)
        init_embedding_and_decoder(self.embedding, self.decoder)

    def initial_hidden(self, batch: int) -> Hidden:
        """The state of every layer, zeros."""
        return self.stack.initial_state(batch)

    def forward(self, tokens: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """See LanguageModel."""
        output, hidden = self.stack(self.embedding(tokens), hidden)
        return output, hidden

    @torch.no_grad()
    def layer_states(self, tokens: Tensor, hidden: Hidden) -> tuple[list[Tensor], Hidden]:
        """See LanguageModel; what each layer gives, before it is added to what the layer reads."""
        return self.stack.outputs(self.embedding(tokens), hidden)


class RecurrentClassifier(TextClassifier):
    """Embedding, recurrent layers, and a linear layer on the output at the last token."""

    def __init__(self, config: RecurrentConfig, vocabulary: int, classes: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, config.hidden)
        self.stack = config.stack()
        self.decoder = nn.Linear(config.hidden, classes)
        init_embedding_and_decoder(self.embedding, self.decoder)

    def weight_uses(self, length: int) -> dict[str, int]:
        """See SequenceModel, but the output layer reads only the last token's output."""
        return super().weight_uses(length) | {"decoder.weight": 1}

    def forward(self, tokens: Tensor) -> Tensor:
        """See TextClassifier; padding is read like a word, as in LSTMClassifier."""
        output, _ = self.stack(embed(self.embedding, tokens), self.stack.initial_state(tokens.shape[1]))
        logits: Tensor = self.decoder(output[-1])
        return logits

    @torch.no_grad()
    def layer_states(self, tokens: Tensor) -> list[Tensor]:
        """See TextClassifier; what each layer gives, before it is added to what the layer reads."""
        outputs, _ = self.stack.outputs(embed(self.embedding, tokens), self.stack.initial_state(tokens.shape[1]))
        return outputs

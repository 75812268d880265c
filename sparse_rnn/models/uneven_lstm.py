"""LSTM layers of different widths: what remains of a stacked LSTM after ISS has removed hidden units."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparse_rnn.models.base import Decoder, Hidden, LanguageModel
from sparse_rnn.models.checks import check_dropouts, check_sizes
from sparse_rnn.models.layers.lstm import LSTM


@dataclass
class UnevenLSTMConfig:
    """An embedding of `embedding` dimensions and layers of `widths` units; one dropout rate at all places.

    It has no name on the command line: `sparse_rnn.extract` makes it.
    """

    task: ClassVar[str] = "language_modelling"

    name: str = "uneven_lstm"
    embedding: int = 1500
    widths: list[int] = field(default_factory=list)
    dropout: float = 0.0

    def __post_init__(self) -> None:
        check_sizes(embedding=self.embedding, widths=min(self.widths, default=0))
        check_dropouts(dropout=self.dropout)

    def build(self, vocabulary: int) -> "UnevenLSTM":
        """The model for a vocabulary of so many words."""
        return UnevenLSTM(self, vocabulary)


class UnevenLSTM(LanguageModel):
    """Embedding, one LSTM per layer, and linear decoder; dropout where the stacked LSTM has it."""

    def __init__(self, config: UnevenLSTMConfig, vocabulary: int) -> None:
        super().__init__()
        self.widths = config.widths
        self.embedding = nn.Embedding(vocabulary, config.embedding)
        self.layers = nn.ModuleList(LSTM(*sizes) for sizes in pairwise([config.embedding, *config.widths]))
        self.decoder = Decoder(config.widths[-1], vocabulary)
        self.dropout = nn.Dropout(config.dropout)

    def initial_hidden(self, batch: int) -> Hidden:
        """(h, c) of each layer, each zeros [1, batch, width]."""
        zeros = [self.embedding.weight.new_zeros(1, batch, width) for width in self.widths]
        return [(h, h.clone()) for h in zeros]

    def forward(self, tokens: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """See LanguageModel."""
        output, carried = self.dropout(self.embedding(tokens)), []
        for layer, state in zip(self.layers, hidden, strict=True):
            output, state = layer(output, state)
            output = self.dropout(output)
            carried.append(state)
        return output, carried

    @torch.no_grad()
    def layer_states(self, tokens: Tensor, hidden: Hidden) -> tuple[list[Tensor], Hidden]:
        """See LanguageModel."""
        output, states, carried = self.embedding(tokens), [], []
        for layer, state in zip(self.layers, hidden, strict=True):
            output, state = layer(output, state)
            states.append(output)
            carried.append(state)
        return states, carried

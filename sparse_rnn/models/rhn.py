"""Recurrent highway network with variational dropout and weight tying (Zilly et al. 2017; Selfish-RNN section 4.2)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparse_rnn.core.declarations import Structures
from sparse_rnn.core.registry import register
from sparse_rnn.models.base import Decoder, Hidden, LanguageModel
from sparse_rnn.models.checks import check_dropouts, check_init_range, check_sizes
from sparse_rnn.models.initialisation import init_embedding_and_decoder, init_uniform
from sparse_rnn.models.layers.dropout import LockedDropout, embed_with_word_dropout
from sparse_rnn.models.layers.highway import HighwayRecurrence


@register("model", "rhn")
@dataclass
class RHNConfig:
    """A recurrent highway network (Zilly et al. 2017), with coupled gates and a tied embedding.

    hidden: units of each highway layer, and dimensions of the embedding. depth: highway layers in each time step.
    dropout_word: the share of words whose embedding is dropped. dropout_input, dropout_hidden, dropout_output: of the
    embedding, of the state at every depth and of the output, with one mask for a whole window.
    init_range: all parameters start in U(+-init_range), instead of as described at RHN.
    transform_bias: the initial bias of the transform gates. Zilly et al. 2017 use 0.04 and -2.
    """

    task: ClassVar[str] = "language_modelling"

    name: str = "rhn"
    hidden: int = 830
    depth: int = 10
    dropout_word: float = 0.2
    dropout_input: float = 0.65
    dropout_hidden: float = 0.25
    dropout_output: float = 0.65
    init_range: float | None = None
    transform_bias: float | None = None

    def __post_init__(self) -> None:
        check_sizes(hidden=self.hidden, depth=self.depth)
        check_dropouts(**{key: value for key, value in vars(self).items() if key.startswith("drop")})
        check_init_range(self.init_range)

    def build(self, vocabulary: int) -> "RHN":
        """The model for a vocabulary of so many words."""
        return RHN(self, vocabulary)


class RHN(LanguageModel):
    """Embedding tied with the decoder, which start in U(+-0.1), and a highway recurrence, which starts as nn.Linear."""

    def __init__(self, config: RHNConfig, vocabulary: int) -> None:
        super().__init__()
        self.hidden, self.dropout_word = config.hidden, config.dropout_word
        self.embedding = nn.Embedding(vocabulary, config.hidden)
        self.highway = HighwayRecurrence(config.hidden, config.depth, config.dropout_hidden)
        self.decoder = Decoder(config.hidden, vocabulary)
        self.decoder.weight = self.embedding.weight
        self.dropout_input = LockedDropout(config.dropout_input)
        self.dropout_output = LockedDropout(config.dropout_output)
        init_embedding_and_decoder(self.embedding, self.decoder)
        if config.init_range is not None:
            init_uniform(self, config.init_range)
        if config.transform_bias is not None:
            self.highway.set_transform_bias(config.transform_bias)

    def structures(self) -> list[Structures]:
        """A unit has its row of both gates and its column at every depth, and its column of the tied embedding."""
        depths = (f"highway.recurrent.{k}.weight" for k in range(len(self.highway.recurrent)))
        gated = ("highway.input.weight", *depths)
        return [Structures("highway", self.hidden, gated, ("embedding.weight", *gated))]

    def initial_hidden(self, batch: int) -> Hidden:
        """Zeros [batch, hidden]."""
        return self.embedding.weight.new_zeros(batch, self.hidden)

    def forward(self, tokens: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """See LanguageModel."""
        embedded = embed_with_word_dropout(self.embedding, tokens, self.dropout_word, self.training)
        output, hidden = self.highway(self.dropout_input(embedded), hidden)
        return self.dropout_output(output), hidden

    @torch.no_grad()
    def layer_states(self, tokens: Tensor, hidden: Hidden) -> tuple[list[Tensor], Hidden]:
        """See LanguageModel; the RHN counts as one layer, with the states after the last depth."""
        states, hidden = self.highway.unroll(self.embedding(tokens), hidden, None)
        return [states], hidden

"""AWD-LSTM with a mixture of softmaxes (Merity et al. 2018, Yang et al. 2018; Selfish-RNN appendix E)."""

from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from sparse_rnn.core.registry import register
from sparse_rnn.models.base import Decoder, Hidden, LanguageModel
from sparse_rnn.models.checks import check_dropouts, check_penalties, check_sizes
from sparse_rnn.models.initialisation import init_embedding_and_decoder
from sparse_rnn.models.layers.activation_penalty import activation_penalty
from sparse_rnn.models.layers.dropout import LockedDropout, embed_with_word_dropout
from sparse_rnn.models.layers.lstm import LSTM


@register("model", "awd_lstm_mos")
@dataclass
class AWDLSTMMoSConfig:
    """LSTMs and a mixture of softmaxes over a tied embedding (Yang et al. 2018).

    embedding: dimensions of the embedding. hidden, last_hidden: units of all layers but the last, and of the last.
    layers: how many layers.
    experts: softmaxes in the mixture. dropout_word: the share of words whose embedding is dropped. dropout_input,
    dropout_hidden, dropout_output, dropout_latent: of the embedding, between layers, of the last layer's output, and of
    what the experts read, with one mask for a whole window.
    drop_connect: the share of recurrent weights dropped in training.
    activation_penalty, temporal_penalty: the weights of AR and TAR of Merity et al. 2017.
    """

    task: ClassVar[str] = "language_modelling"

    name: str = "awd_lstm_mos"
    embedding: int = 300
    hidden: int = 1150
    last_hidden: int = 650
    layers: int = 3
    experts: int = 15
    dropout_word: float = 0.1
    dropout_input: float = 0.55
    dropout_hidden: float = 0.2
    dropout_output: float = 0.4
    dropout_latent: float = 0.29
    drop_connect: float = 0.5
    activation_penalty: float = 2.0
    temporal_penalty: float = 1.0

    def __post_init__(self) -> None:
        sizes = ("embedding", "hidden", "last_hidden", "layers", "experts")
        check_sizes(**{key: getattr(self, key) for key in sizes})
        check_dropouts(**{key: value for key, value in vars(self).items() if key.startswith("drop")})
        check_penalties(activation_penalty=self.activation_penalty, temporal_penalty=self.temporal_penalty)

    def build(self, vocabulary: int) -> "AWDLSTMMoS":
        """The model for a vocabulary of so many words."""
        return AWDLSTMMoS(self, vocabulary)


class AWDLSTMMoS(LanguageModel):
    """Embedding tied with the decoder, LSTMs of different widths, and a mixture of softmaxes.

    Each layer is a module of its own, called with a recurrent weight some of whose entries are dropped. The hidden
    state is a list of (h, c), one per layer, each [1, B, h]. The LSTMs start as in torch.
    """

    def __init__(self, config: AWDLSTMMoSConfig, vocabulary: int) -> None:
        super().__init__()
        self.config = config
        self.widths = [*[config.hidden] * (config.layers - 1), config.last_hidden]
        self.embedding = nn.Embedding(vocabulary, config.embedding)
        self.lstm = nn.ModuleList(LSTM(*pair) for pair in pairwise([config.embedding, *self.widths]))
        self.prior = nn.Linear(config.last_hidden, config.experts, bias=False)
        self.latent = nn.Linear(config.last_hidden, config.experts * config.embedding)
        self.decoder = Decoder(config.embedding, vocabulary)
        self.decoder.weight = self.embedding.weight
        self.dropout_input = LockedDropout(config.dropout_input)
        self.dropout_hidden = LockedDropout(config.dropout_hidden)
        self.dropout_output = LockedDropout(config.dropout_output)
        self.dropout_latent = LockedDropout(config.dropout_latent)
        init_embedding_and_decoder(self.embedding, self.decoder)

    @property
    def _layers(self) -> list[LSTM]:
        return cast(list[LSTM], list(self.lstm))

    def weight_uses(self, length: int) -> dict[str, int]:
        """See SequenceModel, but every expert decodes every token."""
        return super().weight_uses(length) | {"embedding.weight": self.config.experts * length}

    def initial_hidden(self, batch: int) -> Hidden:
        """(h, c) of each layer, zeros [1, batch, width of the layer]."""
        zeros = self.embedding.weight.new_zeros
        return [(zeros(1, batch, width), zeros(1, batch, width)) for width in self.widths]

    def forward(self, tokens: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """See LanguageModel."""
        states, hidden = self.states(tokens, hidden)
        return self.dropout_output(states), hidden

    def states(self, tokens: Tensor, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """The last layer's output before dropout [T, B, H], and the hidden state after the window."""
        embedded = embed_with_word_dropout(self.embedding, tokens, self.config.dropout_word, self.training)
        output, carried = self.dropout_input(embedded), []
        for number, (layer, state) in enumerate(zip(self._layers, hidden, strict=True)):
            if number:
                output = self.dropout_hidden(output)
            output, state = layer.run_layer(0, output, state, self.config.drop_connect)
            carried.append(state)
        return output, carried

    @torch.no_grad()
    def layer_states(self, tokens: Tensor, hidden: Hidden) -> tuple[list[Tensor], Hidden]:
        """See LanguageModel."""
        output, states, carried = self.embedding(tokens), [], []
        for layer, state in zip(self._layers, hidden, strict=True):
            output, state = layer.run_layer(0, output, state)
            states.append(output)
            carried.append(state)
        return states, carried

    def loss(self, output: Tensor, targets: Tensor) -> Tensor:
        """Mean cross-entropy of the mixture in nats; output [T, B, H], targets int64 [T, B]."""
        latent = self.dropout_latent(torch.tanh(self.latent(output)))
        latent = latent.view(targets.numel(), self.config.experts, self.config.embedding)
        log_prior = torch.log_softmax(self.prior(output), dim=-1).flatten(0, 1)
        return self.decoder.mixture_cross_entropy(latent, log_prior, targets.flatten())

    def log_probabilities(self, output: Tensor) -> Tensor:
        """See LanguageModel."""
        latent = self.dropout_latent(torch.tanh(self.latent(output))).unflatten(-1, (self.config.experts, -1))
        log_prior = torch.log_softmax(self.prior(output), dim=-1)
        return torch.logsumexp(torch.log_softmax(self.decoder(latent), dim=-1) + log_prior[..., None], dim=-2)

    def flow(self, length: int) -> Tensor:
        """See SequenceModel; the logits of all experts, and those of the prior."""
        tokens = self.every_token(length)
        output, _ = self(tokens, self.initial_hidden(tokens.shape[1]))
        latent = torch.tanh(self.latent(output)).flatten(0, 1).sum(0).view(self.config.experts, -1)
        logits: Tensor = self.decoder(latent)
        prior: Tensor = self.prior(output)
        return logits.sum() + prior.sum()

    def training_loss(self, tokens: Tensor, targets: Tensor, hidden: Hidden) -> tuple[Tensor, Tensor | None, Hidden]:
        """See LanguageModel; AR is of the output after dropout, TAR of the output before it."""
        states, hidden = self.states(tokens, hidden)
        output = self.dropout_output(states)
        penalty = activation_penalty(output, states, self.config.activation_penalty, self.config.temporal_penalty)
        return self.loss(output, targets), penalty, hidden

"""minLSTM (Feng et al. 2024, "Were RNNs all we needed?"): an LSTM whose gates do not read its state."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from sparse_rnn.core.declarations import Gates
from sparse_rnn.core.registry import register
from sparse_rnn.models.layers.positive_states import log_positive, positive
from sparse_rnn.models.layers.recurrent import RecurrentLayer
from sparse_rnn.models.layers.scan import log_scan
from sparse_rnn.models.recurrent import RecurrentClassifierConfig, RecurrentLMConfig


class MinLSTM(RecurrentLayer):
    """f = sigmoid(W_f x + b_f), i = sigmoid(W_i x + b_i), n = g(W_n x + b_n), h <- (f h + i n) / (f + i); g is
    `positive` (appendix B).

    A window is scanned in log space; a single step, as in generation, is computed as written here.
    Gates: forget, input, new. Counts: with d features 3 d^2 weights, all sparse.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.input = nn.Linear(width, 3 * width)

    def gates(self) -> dict[str, Gates]:
        """Rows of the forget and the input gate, and of the new state."""
        return {"input.weight": Gates.equal(("forget", "input", "new"), self.width, cell="")}

    def initial_state(self, batch: int) -> Tensor:
        """h, zeros [batch, width]."""
        return self.zeros(batch, self.width)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See RecurrentLayer."""
        forget, write, new = self.input(x).to(state.dtype).chunk(3, dim=-1)
        if len(x) == 1:
            forget, write = torch.sigmoid(forget), torch.sigmoid(write)
            states = (forget * state + write * positive(new)) / (forget + write)
        else:
            # f / (f + i) is the sigmoid of log f - log i.
            odds = softplus(-write) - softplus(-forget)
            states = log_scan(-softplus(-odds), log_positive(new) - softplus(odds), state)
        return states, states[-1]


class _OfMinLSTMs:
    def layer(self, width: int) -> MinLSTM:
        """A new layer of `width` features."""
        return MinLSTM(width)


@register("model", "min_lstm")
@dataclass
class MinLSTMConfig(_OfMinLSTMs, RecurrentLMConfig):
    """A language model of minLSTMs."""

    name: str = "min_lstm"


@register("model", "min_lstm_classifier")
@dataclass
class MinLSTMClassifierConfig(_OfMinLSTMs, RecurrentClassifierConfig):
    """A text classifier of minLSTMs."""

    name: str = "min_lstm_classifier"

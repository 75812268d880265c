"""sLSTM of xLSTM (Beck et al. 2024): exponential gates, a stabiliser, and heads that do not mix."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from sparse_rnn.core.activations import ActivationListener
from sparse_rnn.core.declarations import LSTM_GATES, Gates
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import register
from sparse_rnn.models.checks import check_sizes
from sparse_rnn.models.layers.recurrent import RecurrentLayer
from sparse_rnn.models.recurrent import RecurrentClassifierConfig, RecurrentLMConfig

LSTMState = tuple[Tensor, Tensor, Tensor, Tensor]
EMPTY = -1e30  # the stabiliser of a state that holds nothing: below every input gate, however closed
FORGET_BIAS = (3.0, 6.0)  # of the first and of the last unit of a head, as in the authors' code


class SLSTM(RecurrentLayer):
    """[i'; f'; z'; o'] = W x + R h + b, where R has a block for each head; then, with a sigmoid as forget gate,

        m* = max(log sigmoid(f') + m, i'), i = exp(i' - m*), f = exp(log sigmoid(f') + m - m*), m <- m*
        c <- f c + i tanh(z'), n <- f n + i, h <- sigmoid(o') c / n

    (Eq. 8 to 17), and the output is h, normalised in each head. Gates: input, forget, cell, output. Counts: with d
    features and k heads 4 d^2 + 4 d^2 / k weights, all sparse.
    """

    activation_listener: ActivationListener | None = None

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.units = heads, width // heads
        self.input = nn.Linear(width, len(LSTM_GATES) * width)
        own = torch.empty(heads, len(LSTM_GATES) * self.units, self.units).uniform_(-(width**-0.5), width**-0.5)
        self.recurrent = nn.ParameterList(own.unbind())
        self.norm = nn.GroupNorm(heads, width)
        nn.init.zeros_(self.input.bias)
        with torch.no_grad():
            forget = self.input.bias.view(len(LSTM_GATES), heads, self.units)[LSTM_GATES.index("forget")]
            forget.copy_(torch.linspace(*FORGET_BIAS, self.units))

    def gates(self) -> dict[str, Gates]:
        """Rows of the four gates, in W and in the block of every head."""
        own = {f"recurrent.{k}": Gates.equal(LSTM_GATES, self.units, cell="") for k in range(self.heads)}
        return {"input.weight": Gates.equal(LSTM_GATES, self.heads * self.units, cell=""), **own}

    def initial_state(self, batch: int) -> LSTMState:
        """(h, c, n, m), each [heads, batch, units of a head]: zeros, and for m what any first input gate exceeds."""
        h, c, n, m = (self.zeros(self.heads, batch, self.units) for _ in range(4))
        return h, c, n, m.fill_(EMPTY)

    def forward(self, x: Tensor, state: LSTMState) -> tuple[Tensor, LSTMState]:
        """See RecurrentLayer."""
        weight = torch.stack(list(self.recurrent)).transpose(1, 2)
        before, states = state[0], []
        for rows in self._by_head(self.input(x).to(state[0].dtype)):
            state = _step(rows + torch.bmm(state[0], weight), state)
            states.append(state[0])
        after = torch.stack(states)  # [T, heads, B, units]
        if self.activation_listener is not None:
            self._show(x, torch.cat([before[None], after[:-1]]), after)
        output = after.transpose(1, 2).flatten(2)
        return self.norm(output.flatten(0, 1)).view_as(output), state

    def _by_head(self, rows: Tensor) -> Tensor:
        """Rows [T, B, 4 width], gate after gate, as [T, heads, B, 4 units]."""
        steps, batch, _ = rows.shape
        split = rows.view(steps, batch, len(LSTM_GATES), self.heads, self.units)
        return split.permute(0, 3, 1, 2, 4).flatten(3)

    def _show(self, x: Tensor, before: Tensor, after: Tensor) -> None:
        """What the weights read, and the states that came of it, each [T, heads, B, units], for growth rules."""
        assert self.activation_listener is not None
        self.activation_listener(self.input.weight, x, after.transpose(1, 2).flatten(2))
        for weight, own, following in zip(self.recurrent, before.unbind(1), after.unbind(1), strict=True):
            self.activation_listener(weight, own, following)


def _step(rows: Tensor, state: LSTMState) -> LSTMState:
    """The state after a step, given the rows of all gates [heads, B, 4 units]."""
    write, forget, cell, output = rows.chunk(4, dim=-1)
    _, c, n, m = state
    kept = logsigmoid(forget) + m
    m = torch.maximum(kept, write)
    write, forget = torch.exp(write - m), torch.exp(kept - m)
    c, n = forget * c + write * torch.tanh(cell), forget * n + write
    return torch.sigmoid(output) * c / n, c, n, m


@dataclass
class _OfSLSTMs:
    heads: int = 4

    def check(self, width: int) -> None:
        """See RecurrentConfig."""
        check_sizes(heads=self.heads)
        if width % self.heads:
            raise ConfigError(f"model.hidden={width} must be a multiple of model.heads={self.heads}.")

    def layer(self, width: int) -> SLSTM:
        """A new layer of `width` features."""
        return SLSTM(width, self.heads)


@register("model", "slstm")
@dataclass
class SLSTMConfig(_OfSLSTMs, RecurrentLMConfig):
    """A language model of sLSTMs. heads: how many blocks the recurrent weights divide into."""

    name: str = "slstm"


@register("model", "slstm_classifier")
@dataclass
class SLSTMClassifierConfig(_OfSLSTMs, RecurrentClassifierConfig):
    """A text classifier of sLSTMs. heads: how many blocks the recurrent weights divide into."""

    name: str = "slstm_classifier"

"""Mamba's block with its selective state space model (Gu & Dao 2023, the first version)."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import silu, softplus

from sparse_rnn.core.declarations import Gates
from sparse_rnn.core.registry import register
from sparse_rnn.models.checks import check_sizes
from sparse_rnn.models.layers.recurrent import RecurrentLayer
from sparse_rnn.models.layers.scan import linear_scan
from sparse_rnn.models.layers.short_convolution import TAPS, ShortConvolution
from sparse_rnn.models.recurrent import RecurrentClassifierConfig, RecurrentLMConfig

STEP_SIZES = (1e-3, 1e-1)  # the range that they start in


class Mamba(RecurrentLayer):
    """Two branches of D = `expansion` d channels, each with N states (section 3.4 and algorithm 2):

        [v; g] = W_in x, v = SiLU(short convolution of v), [s; B; C] = W_x v, S = softplus(W_s s + b_s)
        h <- exp(S A) h + S B v for every channel and state, A = -exp(log_decay)
        out = W_out ((C h + skip v) SiLU(g))

    s has R = ceil(d / 16) entries. Gates: signal v and gate g of the input; step s, write B and read C of
    the selection. Counts: 2 d D + D (R + 2 N) + R D + D d weights, all sparse; log_decay, skip and the convolution
    are vectors, which stay dense.
    """

    def __init__(self, width: int, expansion: int, states: int) -> None:
        super().__init__()
        self.channels, self.states, self.rank = expansion * width, states, math.ceil(width / 16)
        self.input = nn.Linear(width, 2 * self.channels, bias=False)
        self.convolution = ShortConvolution(self.channels)
        self.selection = nn.Linear(self.channels, self.rank + 2 * states, bias=False)
        self.step_size = nn.Linear(self.rank, self.channels)
        self.log_decay = nn.Parameter(torch.arange(1.0, states + 1).log().repeat_interleave(self.channels))
        self.skip = nn.Parameter(torch.ones(self.channels))
        self.output = nn.Linear(self.channels, width, bias=False)
        nn.init.uniform_(self.step_size.weight, -(self.rank**-0.5), self.rank**-0.5)
        sizes = torch.empty(self.channels).uniform_(*map(math.log, STEP_SIZES)).exp()
        with torch.no_grad():
            self.step_size.bias.copy_(sizes + (-torch.expm1(-sizes)).log())  # whose softplus they are

    def gates(self) -> dict[str, Gates]:
        """Rows of the two branches, and of what is selected by the input."""
        step, write = self.rank, self.rank + self.states
        selected = {"step": slice(0, step), "write": slice(step, write), "read": slice(write, write + self.states)}
        return {
            "input.weight": Gates.equal(("signal", "gate"), self.channels, cell=""),
            "selection.weight": Gates(selected, cell=""),
        }

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor]:
        """h [states, batch, channels] and what the convolution has read [TAPS - 1, batch, channels], zeros."""
        return self.zeros(self.states, batch, self.channels), self.zeros(TAPS - 1, batch, self.channels)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """See RecurrentLayer."""
        h, read = state
        signal, gate = self.input(x).to(h.dtype).chunk(2, dim=-1)
        signal, read = self.convolution(signal, read)
        signal = silu(signal)
        mixed, last = self._states(signal, h)
        return self.output((mixed + self.skip * signal) * silu(gate)), (last, read)

    def _states(self, signal: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """C h of every step [T, B, channels], and the last h; signal: v [T, B, channels]."""
        selected = self.selection(signal)
        step, write, read = selected.split([self.rank, self.states, self.states], dim=-1)
        size = softplus(self.step_size(step).to(h.dtype))
        write, read = (part.to(h.dtype).transpose(1, 2).unsqueeze(-1) for part in (write, read))  # [T, N, B, 1]
        decay = torch.exp(size.unsqueeze(1) * -self.log_decay.view(self.states, 1, self.channels).exp())
        driven = (size * signal).unsqueeze(1) * write
        states = linear_scan(decay, driven, h)
        return (states * read).sum(1), states[-1]


@dataclass
class _OfMambas:
    expansion: int = 2
    states: int = 16

    def check(self, width: int) -> None:
        """See RecurrentConfig."""
        check_sizes(expansion=self.expansion, states=self.states)

    def layer(self, width: int) -> Mamba:
        """A new layer of `width` features."""
        return Mamba(width, self.expansion, self.states)


@register("model", "mamba")
@dataclass
class MambaConfig(_OfMambas, RecurrentLMConfig):
    """A language model of Mamba's blocks. expansion: channels for each feature. states: states of each channel."""

    name: str = "mamba"


@register("model", "mamba_classifier")
@dataclass
class MambaClassifierConfig(_OfMambas, RecurrentClassifierConfig):
    """A text classifier of Mamba's blocks. expansion: channels for each feature. states: states of each channel."""

    name: str = "mamba_classifier"

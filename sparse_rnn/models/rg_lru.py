"""The recurrent block of Griffin with its real-gated linear recurrent unit, the RG-LRU (De et al. 2024)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, softplus

from sparse_rnn.core.declarations import Gates
from sparse_rnn.core.registry import register
from sparse_rnn.models.layers.recurrent import RecurrentLayer
from sparse_rnn.models.layers.scan import linear_scan
from sparse_rnn.models.layers.short_convolution import TAPS, ShortConvolution
from sparse_rnn.models.recurrent import RecurrentClassifierConfig, RecurrentLMConfig

SHARPNESS = 8.0  # c in the paper
SLOWEST, FASTEST = 0.999, 0.9  # a^c at the start
LEAST_SQUARE = 2.5e-7  # below it, the gradient of the root would exceed 1,000: the authors' code bounds it there


class RGLRU(RecurrentLayer):
    """Two branches (sections 2.3 and 2.4): out = W_o (GELU(W_g x + b_g) * h) + b_o, where h follows

        v = short convolution of W_s x + b_s, r = sigmoid(W_r v + b_r), i = sigmoid(W_i v + b_i)
        a = sigmoid(L)^(8 r), h <- a h + sqrt(1 - a^2) i v

    Gates: signal (W_s) and gate (W_g) of the input, recurrence (W_r) and input (W_i) of the control. Counts: with d
    features 5 d^2 weights, all sparse; L and the convolution are vectors, which stay dense.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.input = nn.Linear(width, 2 * width)
        self.convolution = ShortConvolution(width)
        self.control = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        # log a = -8 r softplus(-L), and a^8 begins uniform on a ring.
        radius = torch.empty(width).uniform_(FASTEST**2, SLOWEST**2).sqrt()
        self.decay = nn.Parameter(-(radius ** (-1 / SHARPNESS) - 1).log())

    def gates(self) -> dict[str, Gates]:
        """Rows of the two branches, and of the recurrence and the input gate."""
        return {
            "input.weight": Gates.equal(("signal", "gate"), self.width, cell=""),
            "control.weight": Gates.equal(("recurrence", "input"), self.width, cell=""),
        }

    def initial_state(self, batch: int) -> tuple[Tensor, Tensor]:
        """h [batch, width] and what the convolution has read [TAPS - 1, batch, width], zeros."""
        return self.zeros(batch, self.width), self.zeros(TAPS - 1, batch, self.width)

    def forward(self, x: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """See RecurrentLayer."""
        h, read = state
        signal, gate = self.input(x).to(h.dtype).chunk(2, dim=-1)
        signal, read = self.convolution(signal, read)
        recurrence, write = torch.sigmoid(self.control(signal).to(h.dtype)).chunk(2, dim=-1)
        a = torch.exp(-SHARPNESS * softplus(-self.decay) * recurrence)
        states = linear_scan(a, (1 - a * a).clamp(min=LEAST_SQUARE).sqrt() * write * signal, h)
        return self.output(gelu(gate) * states), (states[-1], read)


class _OfRGLRUs:
    def layer(self, width: int) -> RGLRU:
        """A new layer of `width` features."""
        return RGLRU(width)


@register("model", "rg_lru")
@dataclass
class RGLRUConfig(_OfRGLRUs, RecurrentLMConfig):
    """A language model of Griffin's recurrent blocks."""

    name: str = "rg_lru"


@register("model", "rg_lru_classifier")
@dataclass
class RGLRUClassifierConfig(_OfRGLRUs, RecurrentClassifierConfig):
    """A text classifier of Griffin's recurrent blocks."""

    name: str = "rg_lru_classifier"

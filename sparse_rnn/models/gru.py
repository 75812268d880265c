"""GRU (Cho et al. 2014), as torch has it."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparse_rnn.core.registry import register
from sparse_rnn.models.layers.recurrent import RecurrentLayer
from sparse_rnn.models.recurrent import RecurrentClassifierConfig, RecurrentLMConfig


class GRU(RecurrentLayer):
    """One layer of nn.GRU, whose reset gate acts on the product with the state:

        r = sigmoid(W_r x + R_r h + b_r), u = sigmoid(W_u x + R_u h + b_u)
        n = tanh(W_n x + b_n + r (R_n h + c_n)), h <- (1 - u) n + u h

    Gates: reset, update, new, in torch's order. Counts: with d features 3 d^2 + 3 d^2 weights, all sparse.
    Under autocast it computes in full precision: torch would take float16, where small gradients become zero.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.gru = nn.GRU(width, width)

    def initial_state(self, batch: int) -> Tensor:
        """h, zeros [1, batch, width]."""
        return self.zeros(1, batch, self.width)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See RecurrentLayer."""
        with torch.autocast(x.device.type, enabled=False):
            output, state = self.gru(x.to(state.dtype), state)
        return output, state


class _OfGRUs:
    residual: ClassVar[bool] = False

    def layer(self, width: int) -> GRU:
        """A new layer of `width` features."""
        return GRU(width)


@register("model", "gru")
@dataclass
class GRUConfig(_OfGRUs, RecurrentLMConfig):
    """A language model of GRUs; a layer reads what the one before it gives, as in the stacked LSTM."""

    name: str = "gru"


@register("model", "gru_classifier")
@dataclass
class GRUClassifierConfig(_OfGRUs, RecurrentClassifierConfig):
    """A text classifier of GRUs."""

    name: str = "gru_classifier"

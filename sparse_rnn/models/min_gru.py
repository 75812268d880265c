"""minGRU (Feng et al. 2024, "Were RNNs all we needed?"): a GRU whose gates do not read its state."""

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


class MinGRU(RecurrentLayer):
    """u = sigmoid(W_u x + b_u), n = g(W_n x + b_n), h <- (1 - u) h + u n; g is `positive` (appendix B).

    A window is scanned in log space; a single step, as in generation, is computed as written here.
    Gates: update, new. Counts: with d features 2 d^2 weights, all sparse.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.input = nn.Linear(width, 2 * width)

    def gates(self) -> dict[str, Gates]:
        """Rows of the update gate and of the new state."""
        return {"input.weight": Gates.equal(("update", "new"), self.width, cell="")}

    def initial_state(self, batch: int) -> Tensor:
        """h, zeros [batch, width]."""
        return self.zeros(batch, self.width)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """See RecurrentLayer."""
        update, new = self.input(x).to(state.dtype).chunk(2, dim=-1)
        if len(x) == 1:
            states = torch.lerp(state[None], positive(new), torch.sigmoid(update))
        else:
            states = log_scan(-softplus(update), log_positive(new) - softplus(-update), state)
        return states, states[-1]


class _OfMinGRUs:
    def layer(self, width: int) -> MinGRU:
        """A new layer of `width` features."""
        return MinGRU(width)


@register("model", "min_gru")
@dataclass
class MinGRUConfig(_OfMinGRUs, RecurrentLMConfig):
    """A language model of minGRUs."""

    name: str = "min_gru"


@register("model", "min_gru_classifier")
@dataclass
class MinGRUClassifierConfig(_OfMinGRUs, RecurrentClassifierConfig):
    """A text classifier of minGRUs."""

    name: str = "min_gru_classifier"

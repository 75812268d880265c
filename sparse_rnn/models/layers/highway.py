"""The recurrence of a highway network (Zilly et al. 2017)."""

import torch
from torch import Tensor, nn

from sparse_rnn.core.declarations import Gates
from sparse_rnn.models.layers.dropout import inverted_mask


class HighwayRecurrence(nn.Module):
    """s <- h t + s (1 - t), `depth` times a step: [h; t] = R_k (s m) + b_k, plus W x at the first depth.

    h goes through tanh, t through the logistic function; m is one dropout mask for all steps and depths.
    """

    def __init__(self, hidden: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.width, self.dropout = hidden, dropout
        self.input = nn.Linear(hidden, 2 * hidden)
        self.recurrent = nn.ModuleList(nn.Linear(hidden, 2 * hidden) for _ in range(depth))

    def gates(self) -> dict[str, Gates]:
        """Rows of the candidate (hidden) and of the transform gate; W belongs to the first depth."""
        names = ("hidden", "transform")
        own = {"input.weight": Gates.equal(names, self.width, "depth0")}
        for k in range(len(self.recurrent)):
            own[f"recurrent.{k}.weight"] = Gates.equal(names, self.width, f"depth{k}")
        return own

    @torch.no_grad()
    def set_transform_bias(self, value: float) -> None:
        """Set the bias of every transform gate; at the first depth, that of W becomes zero."""
        transform = slice(self.width, None)
        nn.init.zeros_(self.input.bias[transform])
        for name, parameter in self.recurrent.named_parameters():
            if name.endswith("bias"):
                nn.init.constant_(parameter[transform], value)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """x [T, B, hidden], state [B, hidden]; returns all states [T, B, hidden] and the last one."""
        return self.unroll(x, state, inverted_mask(state, self.dropout) if self.training and self.dropout else None)

    def unroll(self, x: Tensor, state: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The same with a given dropout mask [B, hidden], or without."""
        states = []
        for projected in self.input(x):
            for k, layer in enumerate(self.recurrent):
                pre: Tensor = layer(state if mask is None else state * mask)
                h, t = (pre + projected if k == 0 else pre).chunk(2, dim=-1)
                state = torch.lerp(state, torch.tanh(h), torch.sigmoid(t))
            states.append(state)
        return torch.stack(states), state

"""The recurrence of the recurrent highway network (Zilly et al. 2017)."""

from typing import cast

import torch
from torch import Tensor, nn

from sparse_rnn.core.activations import ActivationListener
from sparse_rnn.core.declarations import Gates
from sparse_rnn.models.layers.dropout import inverted_mask
from sparse_rnn.models.layers.highway_window import TORCH, highway, states_of_depths


class HighwayRecurrence(nn.Module):
    """In every time step, `depth` times: s <- t h + (1 - t) s, with coupled gates (Zilly et al. 2017, Eq. 6-9).

    [h; t] = R_k (s m) + b_k, at the first depth plus W x; then h = tanh(h), t = sigmoid(t). m is a dropout mask, one
    for all steps and depths of a window.
    """

    activation_listener: ActivationListener | None = None

    def __init__(self, hidden: int, depth: int, dropout: float) -> None:
        super().__init__()
        self.width, self.dropout = hidden, dropout
        self.cell = TORCH
        self.input = nn.Linear(hidden, 2 * hidden)
        self.recurrent = nn.ModuleList(nn.Linear(hidden, 2 * hidden) for _ in range(depth))

    def gates(self) -> dict[str, Gates]:
        """The rows of h (hidden) and of t (transform). Each depth is a cell; W belongs to that of the first depth."""
        names = ("hidden", "transform")
        own = {"input.weight": Gates.equal(names, self.width, "depth0")}
        for k in range(len(self.recurrent)):
            own[f"recurrent.{k}.weight"] = Gates.equal(names, self.width, f"depth{k}")
        return own

    @torch.no_grad()
    def set_transform_bias(self, value: float) -> None:
        """Set the bias of every transform gate to `value`; at the first depth, the bias of W becomes zero."""
        transform = slice(self.width, None)
        nn.init.zeros_(self.input.bias[transform])
        for name, parameter in self.recurrent.named_parameters():
            if name.endswith("bias"):
                nn.init.constant_(parameter[transform], value)

    def forward(self, x: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """All states [T, B, hidden] and the last one, given x [T, B, hidden] and the state before [B, hidden]."""
        return self.unroll(x, state, inverted_mask(state, self.dropout) if self.training and self.dropout else None)

    def unroll(self, x: Tensor, state: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The states of `forward`, with a given dropout mask [B, hidden] or, if it is None, without dropout."""
        layers = cast(list[nn.Linear], list(self.recurrent))
        weights, biases = [layer.weight for layer in layers], [layer.bias for layer in layers]
        projected = self.input(x)
        states = highway(projected, state, mask, weights, biases, self.cell)
        if self.activation_listener is not None:
            after = states_of_depths(projected, state, mask, weights, biases, self.cell)
            before = [torch.cat([state[None], after[-1][:-1]]), *after[:-1]]
            self.activation_listener(self.input.weight, x, after[0])
            for weight, own, following in zip(weights, before, after, strict=True):
                self.activation_listener(weight, own if mask is None else own * mask, following)
        return states, states[-1]

"""What recurrent layers have in common, and a stack of them."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sparse_rnn.models.layers.rms_norm import RMSNorm

State = Any
"""A tensor or a tuple of tensors, each with the batch as second-to-last dimension."""


class RecurrentLayer(nn.Module):
    """A layer that reads a window and carries a state: T steps of B sequences of `width` features in and out."""

    def initial_state(self, batch: int) -> State:
        """The state before the first step: zeros."""
        raise NotImplementedError

    def forward(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The output [T, B, width] and the state after the window; x [T, B, width]."""
        raise NotImplementedError

    def zeros(self, *shape: int) -> Tensor:
        """Zeros of the layer's type, on its device."""
        return next(self.parameters()).new_zeros(shape)


class RecurrentStack(nn.Module):
    """Layers of one width. Dropout is drawn anew at every time step, on what each layer reads.

    residual: a layer reads its normalised input and its output is added to that input, x + f(norm(x)); the last sum is
    normalised too. Otherwise a layer reads what the one before it gives.
    """

    def __init__(self, layers: Sequence[RecurrentLayer], width: int, dropout: float, *, residual: bool) -> None:
        super().__init__()
        self.residual = residual
        self.layers = nn.ModuleList(layers)
        self.norms = nn.ModuleList(RMSNorm(width) for _ in range(len(layers) + 1)) if residual else None
        self.dropout = nn.Dropout(dropout)

    def initial_state(self, batch: int) -> list[State]:
        """That of every layer."""
        return [layer.initial_state(batch) for layer in self.layers]  # type: ignore[operator]

    def forward(self, x: Tensor, states: Sequence[State]) -> tuple[Tensor, list[State]]:
        """The output [T, B, width] after dropout, and the states after the window; x [T, B, width]."""
        output, _, states = self._run(x, states, self.dropout)
        return self.dropout(output), states

    @torch.no_grad()
    def outputs(self, x: Tensor, states: Sequence[State]) -> tuple[list[Tensor], list[State]]:
        """What every layer gives without dropout, each [T, B, width], and the states after the window."""
        return self._run(x, states, lambda read: read)[1:]

    def _run(
        self, x: Tensor, states: Sequence[State], drop: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, list[Tensor], list[State]]:
        outputs, carried = [], []
        for number, (layer, state) in enumerate(zip(self.layers, states, strict=True)):
            output, state = layer(drop(self._normalised(x, number)), state)
            outputs.append(output)
            carried.append(state)
            x = x + output if self.residual else output
        return self._normalised(x, len(self.layers)), outputs, carried

    def _normalised(self, x: Tensor, number: int) -> Tensor:
        return x if self.norms is None else self.norms[number](x)

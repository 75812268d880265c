"""nn.Dropout with torch's draws, but faster: where products skip inactive weights, drawing is a large part of a step.

The draws must be torch's, so that a run computes the same on the kernels as with masks. csrc/dropout.cpp draws them.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sparse_rnn.backends.cpu.operators import operators


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """nn.functional.dropout for x on the CPU; with the same draws if x is contiguous."""
    if not training or p == 0:
        return x
    if p == 1:  # nothing is drawn
        return nn.functional.dropout(x, p)
    dropped: Tensor = _Dropout.apply(x, p)  # type: ignore[no-untyped-call]
    return dropped


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        kept = operators().draw_kept(x.shape, p)
        ctx.save_for_backward(kept)
        ctx.p = p
        dropped: Tensor = operators().scale_kept(x.contiguous(), kept, p)
        return dropped

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        [kept] = ctx.saved_tensors
        return operators().scale_kept(gradient.contiguous(), kept, ctx.p), None


class FastDropout(nn.Dropout):
    """nn.Dropout in a model on the kernels."""

    def forward(self, x: Tensor) -> Tensor:
        """x with entries dropped with probability p and the others divided by 1 - p, in training only."""
        return dropout(x, self.p, self.training)

"""nn.Dropout with the same draws, faster: drawing is a good part of a step whose products skip inactive weights."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sparse_rnn.backends.cpu.operators import operators


def dropout(x: Tensor, p: float, training: bool) -> Tensor:
    """See nn.functional.dropout; x on the CPU, p below 1. The same draws where x is contiguous."""
    if not training or p == 0:
        return x
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


class FastDropout(nn.Module):
    """In place of nn.Dropout."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """See nn.Dropout."""
        return dropout(x, self.p, self.training)

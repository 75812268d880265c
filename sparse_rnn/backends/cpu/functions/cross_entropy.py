"""Cross-entropy of a linear layer with a sparse weight; holds the logits only once (csrc/cross_entropy.cpp)."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparse_rnn.backends.cpu.functions.products import Stored, gradients, multiply
from sparse_rnn.backends.cpu.operators import operators
from sparse_rnn.backends.cpu.structure import Structure


def linear_cross_entropy(x: Tensor, values: Tensor, structure: Structure, bias: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log softmax(W x + b)[target] in nats; x [N, C], weight [V, C], bias [V], targets int64 [N]."""
    loss: Tensor = _LinearCrossEntropy.apply(x, values, structure, bias, targets)  # type: ignore[no-untyped-call]
    return loss


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, structure: Structure, bias: Tensor, targets: Tensor) -> Tensor:
        # The gradient by the logits is softmax minus one-hot, up to the factor that backward is given. It is known
        # now, so the operator writes it over the logits.
        tiles = operators().pack(x)
        by_logits = multiply(tiles, Stored(values, structure))
        loss: Tensor = operators().cross_entropy(by_logits, bias, targets.contiguous())
        ctx.save_for_backward(tiles, values, by_logits)
        ctx.structure, ctx.columns = structure, len(x)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        tiles, values, by_logits = ctx.saved_tensors
        stored = Stored(values, ctx.structure)
        by_x, by_values = gradients(by_logits, tiles * factor, ctx.columns, stored, ctx.needs_input_grad[0])
        by_x = None if by_x is None else by_x.mul_(factor)
        return by_x, by_values, None, operators().sum_columns(by_logits).mul_(factor), None

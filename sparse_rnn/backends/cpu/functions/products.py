"""Products of a sparse weight, differentiable once; their C++ is in csrc/products.cpp.

Inputs are float32 or float64 on the CPU. The operators compute with tiles [tiles, rows, width] of packed columns, which
`pack` makes of a matrix [N, rows] and `unpack` turns back; csrc/blocked.h says why.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparse_rnn.backends.cpu.operators import operators
from sparse_rnn.backends.cpu.structure import Structure


class Stored(NamedTuple):
    """A sparse weight [R, C] as the kernels store it: the values of its active entries, and where these are."""

    values: Tensor
    structure: Structure


class ProductContribution(NamedTuple):
    """What a product contributes to the dense gradient [R, C]: outer times inner transposed, both tiles of `columns`
    columns that the backward pass has anyway. Multiplied out only if it is read."""

    outer: Tensor
    inner: Tensor
    columns: int

    def add_to(self, dense: Tensor) -> None:
        """Add it to a dense gradient [R, C]."""
        outer, inner = (operators().unpack(tiles, self.columns) for tiles in (self.outer, self.inner))
        dense.addmm_(outer.t(), inner)


class EmbeddingContribution(NamedTuple):
    """What a lookup contributes to the dense gradient [R, C]: each of the rows [N, C], in the row of its token [N]."""

    tokens: Tensor
    rows: Tensor

    def add_to(self, dense: Tensor) -> None:
        """Add it to a dense gradient [R, C]."""
        dense.index_add_(0, self.tokens, self.rows)


def multiply(tiles: Tensor, stored: Stored) -> Tensor:
    """The weight times tiles [tiles, C, width]: [tiles, R, width]."""
    product: Tensor = operators().product(tiles, stored.values, stored.structure.layout, stored.structure.shape[1])
    return product


def weight_gradient(outer: Tensor, inner: Tensor, columns: int, structure: Structure) -> Tensor:
    """The gradient of the values [active]: of a product whose gradient is `outer` [tiles, R, width], and whose other
    factor was `inner` [tiles, C, width]."""
    _contribute(outer, inner, columns, structure)
    gradient: Tensor = operators().sample(outer, inner, structure.layout, structure.shape[1])
    return gradient


def gradients(
    outer: Tensor, inner: Tensor, columns: int, stored: Stored, of_input: bool
) -> tuple[Tensor | None, Tensor]:
    """The gradient of what was multiplied [N, C], N = `columns`, if `of_input` asks for it; and `weight_gradient`.

    Both are computed in one walk over the transpose.
    """
    if not of_input:
        return None, weight_gradient(outer, inner, columns, stored.structure)
    _contribute(outer, inner, columns, stored.structure)
    layout, index = stored.structure.transpose
    by_tiles, by_values = operators().gradients(outer, inner, stored.values, layout, stored.structure.shape[0], index)
    return operators().unpack(by_tiles, columns), by_values


def _contribute(outer: Tensor, inner: Tensor, columns: int, structure: Structure) -> None:
    """Keep what the dense gradient can be formed from, if the structure is watched."""
    if structure.contributions is not None:
        structure.contributions.append(ProductContribution(outer, inner, columns))


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor, structure: Structure, bias: Tensor | None) -> Tensor:
        tiles = operators().pack(x)
        ctx.save_for_backward(tiles, values)
        ctx.structure, ctx.columns = structure, len(x)
        y: Tensor = operators().unpack(multiply(tiles, Stored(values, structure)), len(x))
        return y if bias is None else y.add_(bias)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        tiles, values = ctx.saved_tensors
        outer = operators().pack(gradient)
        by_x, by_values = gradients(outer, tiles, ctx.columns, Stored(values, ctx.structure), ctx.needs_input_grad[0])
        by_bias = operators().sum_columns(outer) if ctx.needs_input_grad[3] else None
        return by_x, by_values, None, by_bias


def linear(x: Tensor, values: Tensor, structure: Structure, bias: Tensor | None = None) -> Tensor:
    """x [..., C] times the weight's transpose, plus bias [R]: [..., R]."""
    product: Tensor = _Linear.apply(x.reshape(-1, x.shape[-1]), values, structure, bias)  # type: ignore[no-untyped-call]
    return product.view(*x.shape[:-1], -1)


class _Embedding(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tokens: Tensor, values: Tensor, structure: Structure) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.structure = structure
        rows: Tensor = operators().lookup(tokens, values, structure.layout, structure.shape[1])
        return rows

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        [tokens], structure = ctx.saved_tensors, ctx.structure
        if structure.contributions is not None:
            structure.contributions.append(EmbeddingContribution(tokens, gradient))
        return None, operators().lookup_gradient(tokens, gradient, structure.layout, structure.shape[1]), None


def embedding(tokens: Tensor, values: Tensor, structure: Structure) -> Tensor:
    """The weight's rows of int64 tokens [...]: [..., C]."""
    rows: Tensor = _Embedding.apply(tokens.flatten(), values, structure)  # type: ignore[no-untyped-call]
    return rows.view(*tokens.shape, -1)

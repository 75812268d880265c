"""Products of a sparse weight, differentiable once.

Inputs are float32 or float64 on the CPU. Columns are packed into tiles (csrc/blocked.h): `pack` and `unpack`.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparse_rnn.backends.cpu.operators import operators
from sparse_rnn.backends.cpu.structure import Structure


class Stored(NamedTuple):
    """A sparse weight [R, C] as it is stored: the values of its active entries, and where they are."""

    values: Tensor
    structure: Structure


class DenseFactors(NamedTuple):
    """One contribution to a dense gradient: the product of two matrices as tiles of `columns` columns."""

    outer: Tensor
    inner: Tensor
    columns: int

    def add_to(self, dense: Tensor) -> None:
        """Add it to a dense gradient [R, C]."""
        outer, inner = (operators().unpack(tiles, self.columns) for tiles in (self.outer, self.inner))
        dense.addmm_(outer.t(), inner)


class EmbeddingFactors(NamedTuple):
    """One contribution to a dense gradient: rows [N, C] that are added where the tokens [N] say."""

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
    """The gradient of the values [active] from tiles of what comes back [tiles, R, width] and of what went in
    [tiles, C, width]; keeps both if the structure is watched."""
    _keep_factors(outer, inner, columns, structure)
    gradient: Tensor = operators().sample(outer, inner, structure.layout, structure.shape[1])
    return gradient


def gradients(
    outer: Tensor, inner: Tensor, columns: int, stored: Stored, of_input: bool
) -> tuple[Tensor | None, Tensor]:
    """If asked for, the gradient of what went in [N, C], N the columns that are used; and `weight_gradient`."""
    if not of_input:
        return None, weight_gradient(outer, inner, columns, stored.structure)
    _keep_factors(outer, inner, columns, stored.structure)
    layout, index = stored.structure.transpose
    by_tiles, by_values = operators().gradients(outer, inner, stored.values, layout, stored.structure.shape[0], index)
    return operators().unpack(by_tiles, columns), by_values


def _keep_factors(outer: Tensor, inner: Tensor, columns: int, structure: Structure) -> None:
    if structure.factors is not None:
        structure.factors.append(DenseFactors(outer, inner, columns))


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
        if structure.factors is not None:
            structure.factors.append(EmbeddingFactors(tokens, gradient))
        return None, operators().lookup_gradient(tokens, gradient, structure.layout, structure.shape[1]), None


def embedding(tokens: Tensor, values: Tensor, structure: Structure) -> Tensor:
    """The weight's rows of int64 tokens [...]: [..., C]."""
    rows: Tensor = _Embedding.apply(tokens.flatten(), values, structure)  # type: ignore[no-untyped-call]
    return rows.view(*tokens.shape, -1)

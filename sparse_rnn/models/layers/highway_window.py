"""A window of the highway recurrence as one function, with one weight-gradient product for each depth.

T steps, B sequences, H units, K depths. The products are in the dtype of `product_dtype`; all else keeps the dtype of
the state.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparse_rnn.models.layers.precision import product_dtype

tanh_backward = torch.ops.aten.tanh_backward.grad_input  # by name, since looking the overload up costs as much again
sigmoid_backward = torch.ops.aten.sigmoid_backward.grad_input


class HighwayCell:
    """One depth of one step, in torch. A backend may put a subclass in its place (backends/gpu/highway.py)."""

    def forward(
        self,
        read: Tensor,
        weight: Tensor,
        bias: Tensor,
        projected: Tensor | None,
        state: Tensor,
        mask: Tensor | None,
        gates: Tensor,
        after: Tensor,
        following: Tensor | None,
    ) -> None:
        """Fill gates [B, 2H] with h and t, and after [B, H] with s + t (h - s).

        read [B, H] and weight [2H, H]: the factors of the product. bias [2H] and projected [B, 2H] are added to it.
        state [B, H]: s. following [B, H]: what the next product reads, after * mask in the dtype of products; None if
        that is `after` itself.
        """
        if read.dtype == gates.dtype:
            torch.addmm(bias, read, weight.t(), out=gates)
        else:
            torch.add(torch.mm(read, weight.t()), bias, out=gates)
        if projected is not None:
            gates.add_(projected)
        h, t = gates.chunk(2, dim=-1)
        torch.lerp(state, h.tanh_(), t.sigmoid_(), out=after)
        if following is not None:
            read_out(after, mask, following)

    def backward(
        self,
        d_kept: Tensor,
        d_read: Tensor,
        d_state: Tensor | None,
        gates: Tensor,
        state: Tensor,
        mask: Tensor | None,
        weight: Tensor,
        d_pre: Tensor,
    ) -> None:
        """From the gradients by the state after this depth to those by the state before it, in place.

        d_kept [B, H] comes through the coupled update of the next depth, d_read [B, H] through its product, and d_state
        [B, H] from outside. Fills d_pre [B, 2H], the gradient by the rows of h and t before tanh and sigmoid.
        """
        h, t = gates.chunk(2, dim=-1)
        d_h, d_t = d_pre.chunk(2, dim=-1)
        d = total(d_kept, d_read, mask)
        if d_state is not None:
            d += d_state
        opened = d * t
        tanh_backward(opened, h, grad_input=d_h)
        sigmoid_backward((h - state).mul_(d), t, grad_input=d_t)
        torch.sub(d, opened, out=d_kept)
        torch.mm(d_pre, weight, out=d_read)


def read_out(state: Tensor, mask: Tensor | None, following: Tensor) -> None:
    """Fill `following` with what a product reads of a state: state * mask, or the state, in the dtype of products."""
    if mask is None:
        following.copy_(state)
    else:
        torch.mul(state, mask, out=following)


def total(d_kept: Tensor, d_read: Tensor, mask: Tensor | None) -> Tensor:
    """The gradient by a state, of which a product has read state * mask."""
    return d_kept + d_read if mask is None else torch.addcmul(d_kept, d_read.to(d_kept.dtype), mask)


TORCH = HighwayCell()


def highway(
    projected: Tensor,
    state: Tensor,
    mask: Tensor | None,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    cell: HighwayCell = TORCH,
) -> Tensor:
    """All states after the last depth [T, B, H]; can be differentiated once.

    projected: what the input gives to the first depth [T, B, 2H]. state: the one before the window [B, H]. mask [B, H]:
    the factor of the state in every product; None: 1. weights [2H, H] and biases [2H]: those of each depth.
    """
    dtype = product_dtype(weights[0])
    inputs, mask = (projected.contiguous(), state.contiguous()), None if mask is None else mask.contiguous()
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (*inputs, *weights, *biases)):
        states: Tensor = _Highway.apply(cell, dtype, mask, *inputs, *weights, *biases)  # type: ignore[no-untyped-call]
        return states
    cast = [weight.to(dtype) for weight in weights]
    return unroll(cell, *inputs, mask, cast, biases, keep=False)[0]


@torch.no_grad()
def states_of_depths(
    projected: Tensor,
    state: Tensor,
    mask: Tensor | None,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    cell: HighwayCell = TORCH,
) -> list[Tensor]:
    """The states after each depth, each [T, B, H], without gradient; what is given is as for `highway`."""
    cast = [weight.to(product_dtype(weight)) for weight in weights]
    mask = None if mask is None else mask.contiguous()
    last, between, *_ = unroll(cell, projected.contiguous(), state.contiguous(), mask, cast, biases, keep=True)
    return [*between, last]


class _Highway(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        cell: HighwayCell,
        dtype: torch.dtype,
        mask: Tensor | None,
        projected: Tensor,
        state: Tensor,
        *parameters: Tensor,
    ) -> Tensor:
        depth = len(parameters) // 2
        weights = [weight.to(dtype) for weight in parameters[:depth]]
        states, *kept = unroll(cell, projected, state, mask, weights, parameters[depth:], keep=True)
        ctx.save_for_backward(state, mask, states, *kept, *weights)
        ctx.cell = cell
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor | None, ...]:
        state, mask, states, between, read, gates, *weights = ctx.saved_tensors
        path = _path(state, states, between)
        d_pre, d_state = unroll_backward(ctx.cell, d_states.contiguous(), path, mask, gates, weights)
        d_weights: list[Tensor | None] = [None] * len(weights)
        for k, wanted in enumerate(ctx.needs_input_grad[5 : 5 + len(weights)]):
            if wanted:
                before = read[k] if read is not None else _before(k, state, states, between)
                d_weights[k] = (d_pre[k].flatten(0, 1).t() @ before.flatten(0, 1)).to(state.dtype)
        d_biases = d_pre.sum((1, 2), dtype=state.dtype).unbind()
        return None, None, None, d_pre[0], d_state, *d_weights, *d_biases


def unroll(
    cell: HighwayCell,
    projected: Tensor,
    state: Tensor,
    mask: Tensor | None,
    weights: Sequence[Tensor],
    biases: Sequence[Tensor],
    *,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
    """The states after the last depth [T, B, H], and what backward needs, unless `keep` is off.

    That is: the states after the other depths [K - 1, T, B, H]; what each product read [K, T, B, H], or None if that is
    the state itself; h and t [K, T, B, 2H]. If they are not kept, all steps share their memory.
    """
    steps, depth, dtype = len(projected), len(weights), weights[0].dtype
    kept = steps if keep else 1
    states = state.new_empty(steps, *state.shape)
    between = state.new_empty(depth - 1, kept, *state.shape).expand(-1, steps, -1, -1)
    gates = state.new_empty(depth, kept, *projected.shape[1:]).expand(-1, steps, -1, -1)
    path = _path(state, states, between)
    read, reads = None, path
    following: list[Tensor | None] = [None] * len(path)
    if mask is not None or dtype != state.dtype:
        read = state.new_empty(depth, kept, *state.shape, dtype=dtype).expand(-1, steps, -1, -1)
        reads = [*_in_order(read), torch.empty_like(state, dtype=dtype)]
        following = [*reads]
        read_out(state, mask, reads[0])
    for at, rows in enumerate(_in_order(gates)):
        t, k = divmod(at, depth)
        added = None if k else projected[t]
        cell.forward(reads[at], weights[k], biases[k], added, path[at], mask, rows, path[at + 1], following[at + 1])
    return states, between, read, gates


def unroll_backward(
    cell: HighwayCell,
    d_states: Tensor,
    path: Sequence[Tensor],
    mask: Tensor | None,
    gates: Tensor,
    weights: Sequence[Tensor],
) -> tuple[Tensor, Tensor]:
    """The gradients by the rows of h and t [K, T, B, 2H] and by the first state [B, H].

    d_states [T, B, H]: the gradient by the states after the last depth. path: the state before each depth of each step.
    """
    depth, dtype = len(weights), weights[0].dtype
    d_pre = torch.empty_like(gates, dtype=dtype)
    d_kept, d_read = torch.zeros_like(path[0]), torch.zeros_like(path[0], dtype=dtype)
    rows = list(zip(_in_order(gates), _in_order(d_pre), strict=True))
    for at in reversed(range(len(rows))):
        t, k = divmod(at, depth)
        outside = d_states[t] if k == depth - 1 else None
        cell.backward(d_kept, d_read, outside, rows[at][0], path[at], mask, weights[k], rows[at][1])
    return d_pre, total(d_kept, d_read, mask)


def _in_order(kept: Tensor) -> list[Tensor]:
    """The parts [B, .] of a tensor [K, T, B, .] as they are computed: all depths of the first step, then the next."""
    return [part for step in kept.unbind(1) for part in step.unbind()]


def _path(state: Tensor, states: Tensor, between: Tensor) -> list[Tensor]:
    """The state before each depth of each step, and the last one: K T + 1 tensors [B, H]."""
    path = [state]
    for others, last in zip(between.unbind(1), states.unbind(), strict=True):
        path += [*others.unbind(), last]
    return path


def _before(k: int, state: Tensor, states: Tensor, between: Tensor) -> Tensor:
    """The states before depth k [T, B, H]."""
    return between[k - 1] if k else torch.cat([state[None], states[:-1]])

"""One depth of one step of the highway recurrence: a product and one Triton kernel, forward and backward.

An entry is one unit of one sequence. The kernels compute in float32, whatever they load and store.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparse_rnn.backends.gpu.activations import load, tanh
from sparse_rnn.models.layers.highway_window import HighwayCell

LARGEST_BLOCK = 256  # small blocks spread the 16,600 entries of the paper's network over many multiprocessors


class TritonHighwayCell(HighwayCell):
    """Takes contiguous tensors of the current CUDA device."""

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
        """See HighwayCell."""
        own = read.dtype == gates.dtype
        product = torch.mm(read, weight.t(), out=gates) if own else torch.mm(read, weight.t())
        grid, block, warps = _blocks(state)
        sizes = state.numel(), state.shape[1], block
        _forward[grid](product, bias, projected, state, mask, gates, after, following, *sizes, num_warps=warps)

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
        """See HighwayCell."""
        grid, block, warps = _blocks(state)
        sizes = state.numel(), state.shape[1], block
        _backward[grid](d_kept, d_read, d_state, gates, state, mask, d_pre, *sizes, num_warps=warps)
        torch.mm(d_pre, weight, out=d_read)


def _blocks(state: Tensor) -> tuple[tuple[int], int, int]:
    """The grid, the number of entries that one program computes, and its warps, with 2 entries for each thread."""
    block = min(LARGEST_BLOCK, triton.next_power_of_2(state.numel()))
    return (triton.cdiv(state.numel(), block),), block, max(1, block // 64)


@triton.jit  # type: ignore[untyped-decorator]
def _forward(  # type: ignore[no-untyped-def]
    product, bias, projected, state, mask, gates, after, following, entries, width, block: tl.constexpr
):
    entry = tl.program_id(0) * block + tl.arange(0, block)
    inside = entry < entries
    unit = entry % width
    of_h = 2 * entry - unit  # row b of [B, 2 width] starts at 2 b width
    of_t = of_h + width
    h = load(product + of_h, inside) + load(bias + unit, inside)
    t = load(product + of_t, inside) + load(bias + width + unit, inside)
    if projected is not None:
        h += load(projected + of_h, inside)
        t += load(projected + of_t, inside)
    h, t = tanh(h), tl.sigmoid(t)
    s = load(state + entry, inside)
    s += t * (h - s)
    tl.store(gates + of_h, h, mask=inside)
    tl.store(gates + of_t, t, mask=inside)
    tl.store(after + entry, s, mask=inside)
    if following is not None:
        if mask is not None:
            s *= load(mask + entry, inside)
        tl.store(following + entry, s, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _backward(  # type: ignore[no-untyped-def]
    d_kept, d_read, d_state, gates, state, mask, d_pre, entries, width, block: tl.constexpr
):
    entry = tl.program_id(0) * block + tl.arange(0, block)
    inside = entry < entries
    of_h = 2 * entry - entry % width
    of_t = of_h + width
    d = load(d_read + entry, inside)
    if mask is not None:
        d *= load(mask + entry, inside)
    d += load(d_kept + entry, inside)
    if d_state is not None:
        d += load(d_state + entry, inside)
    h, t = load(gates + of_h, inside), load(gates + of_t, inside)
    s = load(state + entry, inside)
    tl.store(d_pre + of_h, d * t * (1 - h * h), mask=inside)
    tl.store(d_pre + of_t, d * (h - s) * t * (1 - t), mask=inside)
    tl.store(d_kept + entry, d * (1 - t), mask=inside)

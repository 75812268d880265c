"""One step of ordered neurons: a product and one Triton kernel, forward and backward.

A program computes one sequence, whose units are a tile [n, k], so that a value of a master gate meets all units of its
chunk. The kernels compute in float32, whatever they load and store.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from sparse_rnn.backends.gpu.activations import load, tanh
from sparse_rnn.models.layers.ordered_neurons_cell import OrderedNeuronsCell, Saved


class TritonOrderedNeuronsCell(OrderedNeuronsCell):
    """Takes contiguous tensors of the current CUDA device."""

    def forward(
        self,
        read: Tensor,
        weight: Tensor,
        projected: Tensor,
        c: Tensor,
        saved: Saved,
        after: Tensor,
        h: Tensor,
        following: Tensor | None,
    ) -> None:
        """See OrderedNeuronsCell."""
        own = read.dtype == saved.gates.dtype
        product = torch.mm(read, weight.t(), out=saved.gates) if own else torch.mm(read, weight.t())
        n, k, tile = _tile(c)
        _forward[(len(c),)](product, projected, c, *saved, after, h, following, n, k, *tile, num_warps=_warps(tile))

    def prepare(self, saved: Saved, cells: Tensor) -> tuple[Tensor, ...]:
        """The c before and after each step, and what forward saved."""
        return cells[:-1], cells[1:], *saved

    def backward(
        self, dh: Tensor, dc: Tensor, d_state: Tensor, step: tuple[Tensor, ...], weight: Tensor, d_rows: Tensor
    ) -> None:
        """See OrderedNeuronsCell."""
        n, k, tile = _tile(dc)
        _backward[(len(dc),)](dh, dc, d_state, *step, d_rows, n, k, *tile, num_warps=_warps(tile))
        torch.mm(d_rows, weight, out=dh)


def _tile(c: Tensor) -> tuple[int, int, tuple[int, int]]:
    """The numbers n and k of c [B, n, k], and the powers of 2 that hold them."""
    _, n, k = c.shape
    return n, k, (triton.next_power_of_2(n), triton.next_power_of_2(k))


def _warps(tile: tuple[int, int]) -> int:
    """So many that a thread holds 8 units, where 1 to 16 warps allow it."""
    return min(16, max(1, tile[0] * tile[1] // 256))


@triton.jit
def _shares(rows, projected, chunk, n):  # type: ignore[no-untyped-def]
    """The softmax over the n rows of a master gate."""
    inside = chunk < n
    x = load(rows + chunk, inside) + load(projected + chunk, inside)
    x = tl.where(inside, x, -float("inf"))
    power = tl.exp(x - tl.max(x, 0))
    return power / tl.sum(power, 0)


@triton.jit  # type: ignore[untyped-decorator]
def _forward(  # type: ignore[no-untyped-def]
    product,
    projected,
    c,
    gates,
    shares,
    opened,
    after,
    h,
    following,
    n,
    k,
    most_n: tl.constexpr,
    most_k: tl.constexpr,
):
    sequence, chunk, width = tl.program_id(0), tl.arange(0, most_n), n * k
    real = chunk < n
    first_row = sequence * (2 * n + 4 * width)
    product, projected, gates = product + first_row, projected + first_row, gates + first_row
    share_i, share_f = _shares(product, projected, chunk, n), _shares(product + n, projected + n, chunk, n)
    opened_i, opened_f = 1 - tl.cumsum(share_i, 0), tl.cumsum(share_f, 0)
    master = sequence * 2 * n + chunk
    tl.store(shares + master, share_i, mask=real)
    tl.store(shares + master + n, share_f, mask=real)
    tl.store(opened + master, opened_i, mask=real)
    tl.store(opened + master + n, opened_f, mask=real)

    place = tl.arange(0, most_k)
    inside = real[:, None] & (place < k)[None, :]
    unit = chunk[:, None] * k + place[None, :]
    row, own = 2 * n + unit, sequence * width + unit
    output = tl.sigmoid(load(product + row, inside) + load(projected + row, inside))
    row_g, row_i, row_f = row + width, row + 2 * width, row + 3 * width
    g = tanh(load(product + row_g, inside) + load(projected + row_g, inside))
    i = tl.sigmoid(load(product + row_i, inside) + load(projected + row_i, inside))
    f = tl.sigmoid(load(product + row_f, inside) + load(projected + row_f, inside))
    overlap = (opened_i * opened_f)[:, None]
    written = opened_i[:, None] + overlap * (i - 1)
    kept = opened_f[:, None] + overlap * (f - 1)
    cell = written * g + kept * load(c + own, inside)
    state = output * tanh(cell)
    tl.store(gates + row, output, mask=inside)
    tl.store(gates + row_g, g, mask=inside)
    tl.store(gates + row_i, i, mask=inside)
    tl.store(gates + row_f, f, mask=inside)
    tl.store(after + own, cell, mask=inside)
    tl.store(h + own, state, mask=inside)
    if following is not None:
        tl.store(following + own, state, mask=inside)


@triton.jit
def _master_gradient(d_sums, share):  # type: ignore[no-untyped-def]
    """The gradient by a master gate's rows, given the one by the cumulative sums of their softmax `share`."""
    d_share = tl.cumsum(d_sums, 0, reverse=True)
    return share * (d_share - tl.sum(share * d_share, 0))


@triton.jit  # type: ignore[untyped-decorator]
def _backward(  # type: ignore[no-untyped-def]
    dh,
    dc,
    d_state,
    before,
    after,
    gates,
    shares,
    opened,
    d_rows,
    n,
    k,
    most_n: tl.constexpr,
    most_k: tl.constexpr,
):
    sequence, chunk, place, width = tl.program_id(0), tl.arange(0, most_n), tl.arange(0, most_k), n * k
    real = chunk < n
    inside = real[:, None] & (place < k)[None, :]
    unit = chunk[:, None] * k + place[None, :]
    row, own = 2 * n + unit, sequence * width + unit
    row_g, row_i, row_f = row + width, row + 2 * width, row + 3 * width
    first_row = sequence * (2 * n + 4 * width)
    gates, d_rows = gates + first_row, d_rows + first_row
    master = sequence * 2 * n + chunk
    opened_i, opened_f = load(opened + master, real)[:, None], load(opened + master + n, real)[:, None]
    output, g = load(gates + row, inside), load(gates + row_g, inside)
    i, f = load(gates + row_i, inside), load(gates + row_f, inside)
    c, tanh_c = load(before + own, inside), tanh(load(after + own, inside))
    d_output = load(dh + own, inside) + load(d_state + own, inside)
    d_cell = load(dc + own, inside) + d_output * output * (1 - tanh_c * tanh_c)

    overlap = opened_i * opened_f
    tl.store(d_rows + row, d_output * tanh_c * output * (1 - output), mask=inside)
    tl.store(d_rows + row_g, d_cell * (opened_i + overlap * (i - 1)) * (1 - g * g), mask=inside)
    tl.store(d_rows + row_i, d_cell * overlap * g * i * (1 - i), mask=inside)
    tl.store(d_rows + row_f, d_cell * overlap * c * f * (1 - f), mask=inside)
    # As in OrderedNeuronsCell.prepare: the gradients by the sums behind the master gates, and i' = 1 - sum.
    through = c * (f - 1) + g * (i - 1)
    d_sums_i = tl.sum(-d_cell * (g + opened_f * through), 1)
    d_sums_f = tl.sum(d_cell * (c + opened_i * through), 1)
    share_i, share_f = load(shares + master, real), load(shares + master + n, real)
    tl.store(d_rows + chunk, _master_gradient(d_sums_i, share_i), mask=real)
    tl.store(d_rows + chunk + n, _master_gradient(d_sums_f, share_f), mask=real)
    tl.store(dc + own, d_cell * (opened_f + overlap * (f - 1)), mask=inside)

"""One step of ordered neurons (ON-LSTM, Shen et al. 2019), and its gradient.

B sequences, h units in n chunks of k, R = 2n + 4h rows. Master gates i' = 1 - cumsoftmax and f' = cumsoftmax, each
value shared by the units of a chunk, with their overlap w = f' i', frame the gates i, f, o of an LSTM and its candidate
g:

    c <- kept c + written g,  kept = f' + w (f - 1),  written = i' + w (i - 1),  h <- o tanh(c)
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Saved(NamedTuple):
    """What forward leaves for backward, of one step or, with T in front, of all steps.

    gates [B, R]: o, g, i and f in the rows of output, cell, input and forget; the rest is not read. shares [B, 2, n]:
    the softmax behind each master gate, input first. opened [B, 2, n]: the master gates.
    """

    gates: Tensor
    shares: Tensor
    opened: Tensor


class OrderedNeuronsCell:
    """One step, in torch. A backend may put a subclass in its place (backends/gpu/ordered_neurons.py)."""

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
        """Fill `saved`, the next c `after` [B, n, k] and the next h [B, h].

        read [B, h] and weight [R, h]: the factors of the product; projected [B, R] is added to it. c: the one before.
        following [B, h]: what the next product reads, h in the dtype of products; None if that is h itself.
        """
        rows, shares, opened = saved
        if read.dtype == rows.dtype:
            torch.addmm(projected, read, weight.t(), out=rows)
        else:
            torch.add(torch.mm(read, weight.t()).to(rows.dtype), projected, out=rows)
        chunks = c.shape[1]
        torch.softmax(rows[:, : 2 * chunks].view(-1, 2, chunks), dim=-1, out=shares)
        torch.cumsum(shares, -1, out=opened)
        opened[:, 0].neg_().add_(1)
        overlap = opened.prod(1, keepdim=True).unsqueeze(-1)
        units = _units(rows, chunks)
        output, cell = units[:, 0].sigmoid_(), units[:, 1].tanh_()
        written, kept = torch.addcmul(opened.unsqueeze(-1) - overlap, overlap, units[:, 2:].sigmoid_()).unbind(1)
        torch.addcmul(written * cell, kept, c, out=after)
        torch.mul(output, after.tanh(), out=h.view_as(after))
        if following is not None:
            following.copy_(h)

    def prepare(self, saved: Saved, cells: Tensor) -> tuple[Tensor, ...]:
        """What `backward` needs, of all steps at once; cells: every c, the one before the window first.

        Here, the partial derivatives that a step's gradients are multiplied by. Of h: by c, and by the row of the
        output gate [T, B, n, k]. Of c: by the cumulative sums behind the master gates (input, forget) and by the rows
        of cell, input and forget [T, B, 5, n, k], and by the c before [T, B, n, k]. Then the shares.
        """
        gates, shares, opened = saved
        output, cell, inward, forget = _units(gates, shares.shape[-1]).unbind(-3)
        opened_inward, opened_forget = opened.unsqueeze(-1).unbind(-3)
        overlap, before, tanh_c = opened_inward * opened_forget, cells[:-1], cells[1:].tanh()
        written = opened_inward + overlap * (inward - 1)
        kept = opened_forget + overlap * (forget - 1)
        # dc/di' = g + f' v and dc/df' = c + i' v, v = c (f - 1) + g (i - 1); i' = 1 - sum, hence the first sign.
        inside = before * (forget - 1) + cell * (inward - 1)
        to_rows = [
            -cell - opened_forget * inside,
            before + opened_inward * inside,
            written * (1 - cell * cell),
            overlap * cell * inward * (1 - inward),
            overlap * before * forget * (1 - forget),
        ]
        to_cell, to_output = output * (1 - tanh_c * tanh_c), tanh_c * output * (1 - output)
        return to_cell, to_output, torch.stack(to_rows, dim=2), kept, shares

    def backward(
        self, dh: Tensor, dc: Tensor, d_state: Tensor, step: tuple[Tensor, ...], weight: Tensor, d_rows: Tensor
    ) -> None:
        """From the gradients by the h [B, h] and c [B, n, k] after a step to those by the ones before it, in place.

        d_state [B, h]: the gradient by h from outside. step: the step's part of what `prepare` returned. Fills d_rows
        [B, R], the gradient by the rows.
        """
        to_cell, to_output, to_rows, kept, shares = step
        d_output = (dh + d_state).view_as(dc)
        dc.addcmul_(d_output, to_cell)
        d_opened, d_units = (dc.unsqueeze(1) * to_rows).tensor_split((2,), dim=1)
        d_masters = _cumsoftmax_backward(d_opened.sum(-1), shares)
        parts = d_masters, d_output * to_output, d_units
        torch.cat([part.flatten(1) for part in parts], dim=1, out=d_rows)
        torch.mm(d_rows, weight, out=dh)
        dc.mul_(kept)


TORCH = OrderedNeuronsCell()


def _units(rows: Tensor, chunks: int) -> Tensor:
    """The rows of output, cell, input and forget, without those of the master gates, as [..., 4, n, k]."""
    return torch.unflatten(rows[..., 2 * chunks :], -1, (4, chunks, -1))


def _cumsoftmax_backward(d_sums: Tensor, shares: Tensor) -> Tensor:
    """The gradient by x, given the one by the cumulative sums of `shares` = softmax(x); all [..., n]."""
    # s_j = sum_{m <= j} p_m gives dp_m = sum_{j >= m} ds_j, a cumulative sum from the end; then dx = p (dp - p.dp).
    d_shares = d_sums.flip(-1).cumsum(-1).flip(-1)
    return shares * (d_shares - (shares * d_shares).sum(-1, keepdim=True))

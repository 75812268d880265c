"""The recurrence of ordered neurons (ON-LSTM, Shen et al. 2019) as one differentiable function of a whole window.

T steps, B sequences, h units in n chunks of k. Master gates i' = 1 - cumsoftmax and f' = cumsoftmax, each value shared
by the units of a chunk, with their overlap w = f' i', frame the gates i, f, o of an LSTM and its candidate g:

    c <- kept c + written g,  kept = f' + w (f - 1),  written = i' + w (i - 1),  h <- o tanh(c)
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sparse_rnn.core.declarations import Gates
from sparse_rnn.models.layers.dropout import drop_connect


def gate_rows(hidden: int, chunk: int) -> dict[str, slice]:
    """The rows of each gate, in the order of the published code."""
    sizes = dict.fromkeys(("master_input", "master_forget"), hidden // chunk)
    sizes |= dict.fromkeys(("output", "cell", "input", "forget"), hidden)
    rows: dict[str, slice] = {}
    start = 0
    for gate, size in sizes.items():
        rows[gate] = slice(start, start + size)
        start += size
    return rows


def ordered_neurons(projected: Tensor, weight: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """All h [T, B, h] and the last c [B, h]; can be differentiated once.

    projected: W x + b of every step [T, B, 2n + 4h]. weight: the recurrent weight [2n + 4h, h]. h, c: the state before
    the window, each [B, h].
    """
    states, cell = _OrderedNeurons.apply(projected, weight, h, c)  # type: ignore[no-untyped-call]
    return states, cell


class _OrderedNeurons(torch.autograd.Function):
    """The weight's gradient is one product over all steps; autograd would add up one product per step."""

    @staticmethod
    def forward(ctx: Any, projected: Tensor, weight: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        chunks = _chunks(weight)
        gates, states = torch.empty_like(projected), projected.new_empty(len(projected), *h.shape)
        cells, masters = [c.view(len(c), chunks, -1)], []
        for t, rows in enumerate(gates):
            torch.addmm(projected[t], states[t - 1] if t else h, weight.t(), out=rows)
            cell, *master = _step(rows, cells[-1])
            torch.mul(_units(rows, chunks)[:, 0], cell.tanh(), out=states[t].view_as(cell))
            cells.append(cell)
            masters.append(master)
        shares, opened = (torch.stack(part) for part in zip(*masters, strict=True))
        ctx.save_for_backward(weight, h, states, gates, torch.stack(cells), shares, opened)
        return states, cell.flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor, d_cell: Tensor) -> tuple[Tensor | None, ...]:
        weight, h, states, gates, cells, shares, opened = ctx.saved_tensors
        chunks = shares.shape[-1]
        to_cell, to_output, to_rows, kept = _slopes(_units(gates, chunks), cells, opened)
        d_rows = torch.empty_like(gates)
        dh, dc = torch.zeros_like(h), d_cell.view(len(h), chunks, -1)
        for t in reversed(range(len(gates))):
            d_output = (dh + d_states[t]).view_as(dc)
            dc = torch.addcmul(dc, d_output, to_cell[t])
            d_opened, d_units = (dc.unsqueeze(1) * to_rows[t]).tensor_split((2,), dim=1)
            d_masters = _cumsoftmax_backward(d_opened.sum(-1), shares[t])
            parts = d_masters, d_output * to_output[t], d_units
            torch.cat([part.flatten(1) for part in parts], dim=1, out=d_rows[t])
            dh = d_rows[t] @ weight
            dc = dc * kept[t]
        d_weight = None
        if ctx.needs_input_grad[1]:
            before = torch.cat([h[None], states[:-1]])
            d_weight = d_rows.flatten(0, 1).t() @ before.flatten(0, 1)
        return d_rows, d_weight, dh, dc.flatten(1)


def _units(rows: Tensor, chunks: int) -> Tensor:
    """The rows of output, cell, input and forget, without those of the master gates, as [..., 4, n, k]."""
    return torch.unflatten(rows[..., 2 * chunks :], -1, (4, chunks, -1))


def _chunks(weight: Tensor) -> int:
    """The number n of chunks, from the shape of a recurrent weight [2n + 4h, h]."""
    return (weight.shape[0] - 4 * weight.shape[1]) // 2


def _step(rows: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """One step from c [B, n, k]: the next c, the softmax behind each master gate, and the master gates [B, 2, n].

    Master gates come in the order input, forget. o, g, i and f replace their rows of [B, 2n + 4h] in place.
    """
    chunks = c.shape[1]
    shares = torch.softmax(rows[:, : 2 * chunks].view(-1, 2, chunks), dim=-1)
    opened = shares.cumsum(-1)
    opened[:, 0].neg_().add_(1)
    overlap = opened.prod(1, keepdim=True).unsqueeze(-1)
    units = _units(rows, chunks)
    units[:, 0].sigmoid_()
    cell = units[:, 1].tanh_()
    written, kept = torch.addcmul(opened.unsqueeze(-1) - overlap, overlap, units[:, 2:].sigmoid_()).unbind(1)
    return torch.addcmul(written * cell, kept, c), shares, opened


def _slopes(units: Tensor, cells: Tensor, opened: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The partial derivatives that a step's gradients are multiplied by, for all steps at once.

    Of h: by c, and by the row of the output gate [T, B, n, k]. Of c: by the cumulative sums behind the master gates
    (input, forget) and by the rows of cell, input and forget [T, B, 5, n, k], and by the c before [T, B, n, k].
    """
    output, cell, inward, forget = units.unbind(-3)
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
    return output * (1 - tanh_c * tanh_c), tanh_c * output * (1 - output), torch.stack(to_rows, dim=2), kept


def _cumsoftmax_backward(d_sums: Tensor, shares: Tensor) -> Tensor:
    """The gradient by x, given the one by the cumulative sums of `shares` = softmax(x); all [..., n]."""
    # s_j = sum_{m <= j} p_m gives dp_m = sum_{j >= m} ds_j, a cumulative sum from the end; then dx = p (dp - p.dp).
    d_shares = d_sums.flip(-1).cumsum(-1).flip(-1)
    return shares * (d_shares - (shares * d_shares).sum(-1, keepdim=True))


State = tuple[Tensor, Tensor]


class ONLSTMLayer(nn.Module):
    """One layer. In training, a share p of the recurrent weights is dropped, drawn anew for every window.

    In evaluation all of them are scaled by 1 - p instead.
    """

    def __init__(self, inputs: int, hidden: int, chunk: int, p: float) -> None:
        super().__init__()
        self.hidden, self.chunk, self.p = hidden, chunk, p
        rows = 4 * hidden + 2 * (hidden // chunk)
        self.input = nn.Linear(inputs, rows)
        self.recurrent = nn.Linear(hidden, rows)

    def gates(self) -> dict[str, Gates]:
        """The rows of the two master gates and of output, cell, input and forget; the layer is one cell."""
        own = Gates(gate_rows(self.hidden, self.chunk), cell="")
        return {"input.weight": own, "recurrent.weight": own}

    def forward(self, x: Tensor, state: State, training: bool) -> tuple[Tensor, State]:
        """All h [T, B, hidden] and the last (h, c), given x [T, B, inputs] and (h, c) before, each [B, hidden]."""
        weight = drop_connect(self.recurrent.weight, self.p, training, inverted=False)
        projected = nn.functional.linear(x, self.input.weight, self.input.bias + self.recurrent.bias)
        states, cell = ordered_neurons(projected, weight, *state)
        return states, (states[-1], cell)

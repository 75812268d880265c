"""The recurrence of ordered neurons (ON-LSTM, Shen et al. 2019) as one differentiable function of a whole window.

T steps, B sequences, h units in n chunks of k; `ordered_neurons_cell` has the equations. Products are in the dtype of
`product_dtype`; all else keeps the dtype of the state.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sparse_rnn.core.activations import ActivationListener
from sparse_rnn.core.declarations import Gates
from sparse_rnn.models.layers.dropout import drop_connect
from sparse_rnn.models.layers.ordered_neurons_cell import TORCH, OrderedNeuronsCell, Saved
from sparse_rnn.models.layers.precision import product_dtype


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


def ordered_neurons(
    projected: Tensor, weight: Tensor, h: Tensor, c: Tensor, cell: OrderedNeuronsCell = TORCH
) -> tuple[Tensor, Tensor]:
    """All h [T, B, h] and the last c [B, h]; can be differentiated once.

    projected: W x + b of every step [T, B, 2n + 4h]. weight: the recurrent weight [2n + 4h, h]. h, c: the state before
    the window, each [B, h].
    """
    inputs = (tensor.contiguous() for tensor in (projected, weight, h, c))
    states, last = _OrderedNeurons.apply(cell, product_dtype(weight), *inputs)  # type: ignore[no-untyped-call]
    return states, last


class _OrderedNeurons(torch.autograd.Function):
    """The weight's gradient is one product over all steps; autograd would add up one product per step."""

    @staticmethod
    def forward(
        ctx: Any, cell: OrderedNeuronsCell, dtype: torch.dtype, projected: Tensor, weight: Tensor, h: Tensor, c: Tensor
    ) -> tuple[Tensor, Tensor]:
        weight = weight.to(dtype)
        states, cells, read, saved = unroll(cell, projected, weight, h, c)
        ctx.save_for_backward(weight, h, states, cells, read, *saved)
        ctx.cell = cell
        return states, cells[-1].flatten(1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor, d_cell: Tensor) -> tuple[Tensor | None, ...]:
        weight, h, states, cells, read, *saved = ctx.saved_tensors
        prepared = ctx.cell.prepare(Saved(*saved), cells)
        d_rows, dh, dc = unroll_backward(ctx.cell, d_states.contiguous(), d_cell.view_as(cells[-1]), prepared, weight)
        d_weight = None
        if ctx.needs_input_grad[3]:
            before = torch.cat([h[None], states[:-1]]) if read is None else read[:-1]
            d_weight = (d_rows.flatten(0, 1).t() @ before.flatten(0, 1)).to(h.dtype)
        return None, None, d_rows, d_weight, dh, dc.flatten(1)


def unroll(
    cell: OrderedNeuronsCell, projected: Tensor, weight: Tensor, h: Tensor, c: Tensor
) -> tuple[Tensor, Tensor, Tensor | None, Saved]:
    """All h [T, B, h], and what backward needs: every c [T + 1, B, n, k], what products read, and what cells saved.

    weight: in the dtype of products. What products read [T + 1, B, h] is None if that is h itself.
    """
    steps, batch, chunks = len(projected), h.shape[0], _chunks(weight)  # len() would fix the batch of a traced graph
    states, cells = h.new_empty(steps, *h.shape), h.new_empty(steps + 1, batch, chunks, h.shape[1] // chunks)
    masters = (h.new_empty(steps, batch, 2, chunks) for _ in range(2))
    saved = Saved(h.new_empty(projected.shape), *masters)
    cells[0].copy_(c.view_as(cells[0]))
    read = None
    if weight.dtype != h.dtype:
        read = h.new_empty(steps + 1, *h.shape, dtype=weight.dtype)
        read[0].copy_(h)
    for t, own in enumerate(zip(*saved, strict=True)):
        before, following = (states[t - 1] if t else h, None) if read is None else (read[t], read[t + 1])
        cell.forward(before, weight, projected[t], cells[t], Saved(*own), cells[t + 1], states[t], following)
    return states, cells, read, saved


def unroll_backward(
    cell: OrderedNeuronsCell, d_states: Tensor, d_cell: Tensor, prepared: tuple[Tensor, ...], weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients by the rows [T, B, 2n + 4h], and by the first h [B, h] and c [B, n, k].

    d_states [T, B, h] and d_cell [B, n, k]: those by all h and by the last c. prepared: see `OrderedNeuronsCell`.
    """
    steps, batch, _ = d_states.shape
    d_rows = torch.empty(steps, batch, len(weight), dtype=weight.dtype, device=weight.device)
    dh = torch.zeros_like(d_states[0], dtype=weight.dtype)
    dc = d_cell.clone(memory_format=torch.contiguous_format)
    for t, step in reversed(list(enumerate(zip(*prepared, strict=True)))):
        cell.backward(dh, dc, d_states[t], step, weight, d_rows[t])
    return d_rows, dh.to(d_states.dtype), dc


def _chunks(weight: Tensor) -> int:
    """The number n of chunks, from the shape of a recurrent weight [2n + 4h, h]."""
    return (weight.shape[0] - 4 * weight.shape[1]) // 2


State = tuple[Tensor, Tensor]


class ONLSTMLayer(nn.Module):
    """One layer. In training, a share p of the recurrent weights is dropped, drawn anew for every window.

    In evaluation all of them are scaled by 1 - p instead.
    """

    activation_listener: ActivationListener | None = None

    def __init__(self, inputs: int, hidden: int, chunk: int, p: float) -> None:
        super().__init__()
        self.hidden, self.chunk, self.p = hidden, chunk, p
        self.cell = TORCH
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
        states, cell = ordered_neurons(projected, weight, *state, self.cell)
        if self.activation_listener is not None:
            # A row of a master gate is shared by the units of a chunk.
            chunks = torch.unflatten(states, -1, (-1, self.chunk)).mean(-1)
            rows = torch.cat([chunks, chunks, *[states] * 4], dim=-1)
            self.activation_listener(self.input.weight, x, rows)
            self.activation_listener(self.recurrent.weight, torch.cat([state[0][None], states[:-1]]), rows)
        return states, (states[-1], cell)

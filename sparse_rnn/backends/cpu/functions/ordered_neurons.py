"""A window of an ON-LSTM layer with sparse weights, as one function, differentiable once.

Forward and backward are here and in csrc/ordered_neurons.cpp. Here are the products over all steps at once: what the
input gives to the rows, and the gradients of weights, biases and input. There is the recurrence, step by step.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparse_rnn.backends.cpu.functions.products import Stored, gradients, multiply, weight_gradient
from sparse_rnn.backends.cpu.operators import operators
from sparse_rnn.backends.cpu.structure import Structure


def on_lstm_layer(
    x: Tensor, h: Tensor, c: Tensor, of_input: Stored, recurrent: Stored, bias: Tensor
) -> tuple[Tensor, Tensor]:
    """All states [T, B, H], and the last c [B, H]; x [T, B, I], h, c [B, H].

    of_input [R, I], recurrent [R, H], bias [R]: their R = 2 chunks + 4H rows are in the order of `ONLSTMLayer.gates`.
    Raises ValueError if h does not fit x.
    """
    if h.shape != (x.shape[1], recurrent.structure.shape[1]):
        raise ValueError(f"h has shape {tuple(h.shape)} for a batch of {x.shape[1]}")
    structures = of_input.structure, recurrent.structure
    states, c = _ONLSTMLayer.apply(x, h, c, of_input.values, recurrent.values, bias, structures)  # type: ignore[no-untyped-call]
    return states, c


class _ONLSTMLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        h: Tensor,
        c: Tensor,
        of_input: Tensor,
        recurrent: Tensor,
        bias: Tensor,
        structures: tuple[Structure, Structure],
    ) -> tuple[Tensor, Tensor]:
        tiles = operators().pack(x.flatten(0, 1))
        projected = multiply(tiles, Stored(of_input, structures[0]))
        states, before, of_units, of_masters, last_c = operators().ordered_neurons_forward(
            projected, bias, h, c, len(x), recurrent, structures[1].layout
        )
        ctx.save_for_backward(tiles, before, of_units, of_masters, of_input, recurrent)
        ctx.structures = structures
        return states, last_c

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor, d_c: Tensor) -> tuple[Tensor | None, ...]:
        tiles, before, of_units, of_masters, of_input, recurrent = ctx.saved_tensors
        steps, batch, _ = d_states.shape
        columns = steps * batch
        d_rows, first_h, first_c = operators().ordered_neurons_backward(
            d_states.contiguous(), d_c, of_units, of_masters, *ctx.structures[1].transposed(recurrent)
        )
        by_x, by_input = gradients(d_rows, tiles, columns, Stored(of_input, ctx.structures[0]), ctx.needs_input_grad[0])
        by_recurrent = weight_gradient(d_rows, before, columns, ctx.structures[1])
        by_x = None if by_x is None else by_x.view(steps, batch, -1)
        return by_x, first_h, first_c, by_input, by_recurrent, operators().sum_columns(d_rows), None

"""A window of an LSTM layer with sparse weights, as one function, differentiable once.

Forward and backward are here and in csrc/lstm.cpp. Here are the products over all steps at once: what the input gives
to the gates, and the gradients of weights, biases and input. There is the recurrence, step by step: the product with
the state, the gates, and in backward the same in reverse.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparse_rnn.backends.cpu.functions.products import Stored, gradients, multiply, weight_gradient
from sparse_rnn.backends.cpu.operators import operators
from sparse_rnn.backends.cpu.structure import Structure


def lstm_layer(
    x: Tensor, h: Tensor, c: Tensor, ih: Stored, hh: Stored, bias_ih: Tensor, bias_hh: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """All states [T, B, H], and the last h and c [B, H]; x [T, B, I], h, c [B, H].

    ih [4H, I], hh [4H, H], biases [4H]: the gates in torch's order, i, f, g, o. Raises ValueError if h does not fit x.
    """
    if h.shape != (x.shape[1], hh.structure.shape[1]):
        raise ValueError(f"h has shape {tuple(h.shape)} for a batch of {x.shape[1]}")
    structures = ih.structure, hh.structure
    states, h, c = _LSTMLayer.apply(x, h, c, ih.values, hh.values, bias_ih, bias_hh, structures)  # type: ignore[no-untyped-call]
    return states, h, c


class _LSTMLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        h: Tensor,
        c: Tensor,
        ih: Tensor,
        hh: Tensor,
        bias_ih: Tensor,
        bias_hh: Tensor,
        structures: tuple[Structure, Structure],
    ) -> tuple[Tensor, Tensor, Tensor]:
        tiles = operators().pack(x.flatten(0, 1))
        projected = multiply(tiles, Stored(ih, structures[0]))
        states, before, saved, last_h, last_c = operators().lstm_forward(
            projected, bias_ih + bias_hh, h, c, len(x), hh, structures[1].layout
        )
        ctx.save_for_backward(tiles, before, saved, ih, hh)
        ctx.structures = structures
        return states, last_h, last_c

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor, d_h: Tensor, d_c: Tensor) -> tuple[Tensor | None, ...]:
        tiles, before, saved, ih, hh = ctx.saved_tensors
        steps, batch, _ = d_states.shape
        columns = steps * batch
        d_gates, first_h, first_c = operators().lstm_backward(
            d_states.contiguous(), d_h, d_c, saved, *ctx.structures[1].transposed(hh)
        )
        by_x, by_ih = gradients(d_gates, tiles, columns, Stored(ih, ctx.structures[0]), ctx.needs_input_grad[0])
        by_hh = weight_gradient(d_gates, before, columns, ctx.structures[1])
        by_bias = operators().sum_columns(d_gates)
        by_x = None if by_x is None else by_x.view(steps, batch, -1)
        return by_x, first_h, first_c, by_ih, by_hh, by_bias, by_bias.clone(), None

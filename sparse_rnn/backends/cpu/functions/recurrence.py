"""A window of one of torch's recurrent layers with sparse weights, as one function, differentiable once.

Forward and backward are here and in csrc/lstm.cpp, gru.cpp and rnn.cpp. Here are the products over all steps at once:
what the input gives to the gates, and the gradients of weights, biases and input. There is the recurrence, step by
step: the product with the state, the gates, and in backward the same in reverse.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparse_rnn.backends.cpu.functions.products import Stored, gradients, multiply, weight_gradient
from sparse_rnn.backends.cpu.operators import operators
from sparse_rnn.backends.cpu.structure import Structure


class Order(NamedTuple):
    """In which order a layer takes the steps of a window, and how many sequences each step has.

    sizes: those of sequences of unequal lengths, packed as torch packs them, the longest first; None: always all.
    """

    reverse: bool = False
    sizes: tuple[int, ...] | None = None


FORWARD = Order()


def recurrent_layer(
    kind: str,
    x: Tensor,
    state: Sequence[Tensor],
    weights: tuple[Stored, Stored],
    biases: tuple[Tensor | None, Tensor | None],
    order: Order = FORWARD,
) -> tuple[Tensor, ...]:
    """All states [T, B, H], then the last h [B, H], and of an LSTM the last c; x [T, B, I].

    Packed, x is [N, I] and the states are [N, H]; a sequence that ends before others has its last state at its own end.
    kind: "lstm", "gru", "rnn_tanh" or "rnn_relu", with torch's equations and order of gates. state: the first h, and of
    an LSTM the first c. weights: of the input [R, I] and of the state [R, H]; biases: beside both [R], or None. Raises
    ValueError if the state does not fit x.
    """
    of_input, recurrent = weights
    sizes = (x.shape[1],) * len(x) if order.sizes is None else order.sizes
    batch = x.shape[1] if order.sizes is None else sizes[0]
    for tensor in state:
        if tensor.shape != (batch, recurrent.structure.shape[1]):
            raise ValueError(f"the state has shape {tuple(tensor.shape)} for a batch of {batch}")
    structures, rows = (of_input.structure, recurrent.structure), x.reshape(-1, x.shape[-1])
    states, *last = _RecurrentLayer.apply(  # type: ignore[no-untyped-call]
        rows, of_input.values, recurrent.values, *biases, kind, structures, sizes, order.reverse, *state
    )
    return states.view(*x.shape[:-1], -1), *last


class _RecurrentLayer(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        of_input: Tensor,
        recurrent: Tensor,
        bias_ih: Tensor | None,
        bias_hh: Tensor | None,
        kind: str,
        structures: tuple[Structure, Structure],
        sizes: tuple[int, ...],
        reverse: bool,
        *state: Tensor,
    ) -> tuple[Tensor, ...]:
        tiles = operators().pack(x)
        projected = multiply(tiles, Stored(of_input, structures[0]))
        rows = structures[0].shape[0]
        biases = [projected.new_zeros(rows) if bias is None else bias for bias in (bias_ih, bias_hh)]
        forward = getattr(operators(), f"{kind}_forward")
        states, before, saved, *last = forward(
            projected, *biases, state, sizes, reverse, recurrent, structures[1].layout
        )
        ctx.save_for_backward(tiles, before, saved, of_input, recurrent)
        ctx.kind, ctx.structures, ctx.sizes, ctx.reverse = kind, structures, sizes, reverse
        return states, *last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor, *d_last: Tensor) -> tuple[Tensor | None, ...]:
        tiles, before, saved, of_input, recurrent = ctx.saved_tensors
        structures, columns = ctx.structures, len(d_states)
        backward = getattr(operators(), f"{ctx.kind}_backward")
        outer, outer_of_state, *first = backward(
            d_states.contiguous(), d_last, before, saved, ctx.sizes, ctx.reverse, *structures[1].transposed(recurrent)
        )
        by_recurrent = weight_gradient(outer_of_state, before, columns, structures[1])
        by_bias_hh = operators().sum_columns(outer_of_state)
        # Only the GRU has two different gradients here.
        by_bias_ih = by_bias_hh.clone() if outer.is_set_to(outer_of_state) else operators().sum_columns(outer)
        del outer_of_state
        by_x, by_input = gradients(outer, tiles, columns, Stored(of_input, structures[0]), ctx.needs_input_grad[0])
        by_biases = [
            gradient if needed else None
            for gradient, needed in zip((by_bias_ih, by_bias_hh), ctx.needs_input_grad[3:5], strict=True)
        ]
        return by_x, by_input, by_recurrent, *by_biases, None, None, None, None, *first

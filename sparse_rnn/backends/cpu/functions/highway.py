"""A window of a recurrent highway network with sparse weights, as one function, differentiable once.

Forward and backward are here and in csrc/highway.cpp. Here are the gradients of weights and biases, each one product
over all steps. There is the recurrence: the products with the state, `depth` of them per step, and the gates.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from sparse_rnn.backends.cpu.functions.products import Stored, weight_gradient
from sparse_rnn.backends.cpu.operators import operators
from sparse_rnn.backends.cpu.structure import Structure


def highway(
    projected: Tensor, state: Tensor, mask: Tensor | None, layers: Sequence[tuple[Stored, Tensor]]
) -> tuple[Tensor, Tensor]:
    """All states [T, B, H] and the last one [B, H].

    projected [T, B, 2H]: what the input gives to the first depth. state: the first one [B, H]. mask [B, H]: multiplied
    with the state before each product; None: none. layers: weight [2H, H] and bias [2H] of each depth.
    """
    structures = [stored.structure for stored, _ in layers]
    values, biases = [stored.values for stored, _ in layers], [bias for _, bias in layers]
    mask = torch.ones_like(state) if mask is None else mask
    states, last = _Highway.apply(projected, state, mask, structures, *values, *biases)  # type: ignore[no-untyped-call]
    return states, last


class _Highway(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, projected: Tensor, state: Tensor, mask: Tensor, structures: list[Structure], *parameters: Tensor
    ) -> tuple[Tensor, Tensor]:
        steps, batch, _ = projected.shape
        depth = len(structures)
        values, biases = parameters[:depth], parameters[depth:]
        layouts = [tensor for structure in structures for tensor in structure.layout]
        *kept, states, last = operators().highway_forward(
            operators().pack(projected.flatten(0, 1)), state, mask, steps, list(biases), list(values), layouts
        )
        ctx.save_for_backward(mask, *kept, *values)
        ctx.structures, ctx.steps = structures, steps
        return operators().unpack(states, steps * batch).view(steps, batch, -1), last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor, d_last: Tensor) -> tuple[Tensor | None, ...]:
        mask, *saved = ctx.saved_tensors
        steps, depth = ctx.steps, len(ctx.structures)
        columns = steps * len(mask)
        inputs, gates, unmasked, values = (saved[k * depth : (k + 1) * depth] for k in range(4))
        transposed = [structure.transposed(own) for structure, own in zip(ctx.structures, values, strict=True)]
        *d_gates, d_state = operators().highway_backward(
            operators().pack(d_states.flatten(0, 1)),
            d_last,
            mask,
            steps,
            gates,
            unmasked,
            [own for own, _ in transposed],
            [tensor for _, layout in transposed for tensor in layout],
        )
        by_values = [
            weight_gradient(outer, inner, columns, structure)
            for outer, inner, structure in zip(d_gates, inputs, ctx.structures, strict=True)
        ]
        by_biases = [operators().sum_columns(outer) for outer in d_gates]
        by_projected = operators().unpack(d_gates[0], columns).view(steps, len(mask), -1)
        return by_projected, d_state, None, None, *by_values, *by_biases

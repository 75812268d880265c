"""The activation regularisation of language models (Merity et al. 2017)."""

import torch
from torch import Tensor


def activation_penalty(output: Tensor, states: Tensor, activation: float, temporal: float) -> Tensor:
    """AR and TAR: activation * mean(output_t^2) + temporal * mean((states_t+1 - states_t)^2).

    output, states: [T, B, H]. With a single step there is no TAR. Squares and means are in float32 at least: a mean
    in bfloat16 has two to three digits.
    """
    output, states = (part.to(torch.promote_types(part.dtype, torch.float32)) for part in (output, states))
    penalty = activation * output.square().mean()
    if states.shape[0] > 1:
        penalty = penalty + temporal * (states[1:] - states[:-1]).square().mean()
    return penalty

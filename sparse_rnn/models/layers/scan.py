"""Linear recurrences h_t = a_t h_{t-1} + b_t over a window, computed in parallel by an associative scan.

The scan pairs neighbouring steps, scans the pairs, and fills in the steps between them (Blelloch 1990): 2 T operations
in 2 log T rounds, each one operation on tensors. The gradient is the same recurrence backwards:
dL/db_t = g_t + a_{t+1} dL/db_{t+1}, dL/da_t = h_{t-1} dL/db_t. T steps; all tensors have the same shape [T, ...].
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class _Arithmetic(NamedTuple):
    """multiply(a, a'): the coefficient of two steps. step(a, h, b): the state after h."""

    multiply: Callable[[Tensor, Tensor], Tensor]
    step: Callable[[Tensor, Tensor, Tensor], Tensor]


def _step(a: Tensor, h: Tensor, b: Tensor) -> Tensor:
    return torch.addcmul(b, a, h)


def _log_step(a: Tensor, h: Tensor, b: Tensor) -> Tensor:
    return torch.logaddexp(a + h, b)


LINEAR = _Arithmetic(torch.mul, _step)
LOG = _Arithmetic(torch.add, _log_step)  # the same of logarithms, for positive numbers


def linear_scan(a: Tensor, b: Tensor, first: Tensor) -> Tensor:
    """All h_t = a_t h_{t-1} + b_t [T, ...], from h_0 = `first` [...]; can be differentiated once.

    A single step, as in generation, is computed as written here.
    """
    if len(b) == 1:
        return a * first + b
    states: Tensor = _LinearScan.apply(a, b, first)  # type: ignore[no-untyped-call]
    return states


def log_scan(log_a: Tensor, log_b: Tensor, first: Tensor) -> Tensor:
    """The same from log a and log b, computed in log space; `first` must not be negative, and may be zero."""
    states: Tensor = _LogScan.apply(log_a, log_b, first)  # type: ignore[no-untyped-call]
    return states


def _scan(a: Tensor, b: Tensor, arithmetic: _Arithmetic) -> Tensor:
    """All states, the first of which is b_1; a_1 is not read."""
    pairs = len(b) // 2
    if not pairs:
        return b
    inner = slice(0, 2 * pairs, 2)
    of_pairs = arithmetic.multiply(a[inner], a[1::2]), arithmetic.step(a[1::2], b[inner], b[1::2])
    second = _scan(*of_pairs, arithmetic)
    states = torch.empty_like(b)
    states[0], states[1::2] = b[0], second
    if len(b) > 2:
        states[2::2] = arithmetic.step(a[2::2], second[: (len(b) - 1) // 2], b[2::2])
    return states


def _scan_from(a: Tensor, b: Tensor, first: Tensor, arithmetic: _Arithmetic) -> Tensor:
    """All states after `first`."""
    b = b.clone(memory_format=torch.contiguous_format)
    b[0] = arithmetic.step(a[0], first, b[0])
    return _scan(a, b, arithmetic)


def _gradients(a: Tensor, states: Tensor, first: Tensor, d_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients by a, b and the first state."""
    d_b = _scan(a.roll(-1, 0).flip(0), d_states.flip(0), LINEAR).flip(0)
    return d_b * torch.cat([first[None], states[:-1]]), d_b, a[0] * d_b[0]


class _LinearScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, first: Tensor) -> Tensor:
        states = _scan_from(a, b, first, LINEAR)
        ctx.save_for_backward(a, states, first)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        a, states, first = ctx.saved_tensors
        return _gradients(a, states, first, d_states)


class _LogScan(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, log_a: Tensor, log_b: Tensor, first: Tensor) -> Tensor:
        states = _scan_from(log_a, log_b, first.log(), LOG).exp_()
        ctx.save_for_backward(log_a, log_b, states, first)
        return states

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_states: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        log_a, log_b, states, first = ctx.saved_tensors
        a = log_a.exp()
        d_a, d_b, d_first = _gradients(a, states, first, d_states)
        return d_a.mul_(a), d_b * log_b.exp(), d_first

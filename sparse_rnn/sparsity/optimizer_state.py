"""The optimizer's state of weights whose topology changes."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

SECOND_MOMENTS = frozenset({"exp_avg_sq", "max_exp_avg_sq", "square_avg"})


@runtime_checkable
class RestartsEntries(Protocol):
    """An optimizer that knows itself how single entries of a parameter begin again."""

    def restart_entries(self, parameter: nn.Parameter, restart: Tensor) -> None: ...


@runtime_checkable
class CarriesEntries(Protocol):
    """An optimizer that keeps tensors like a parameter in a place of its own."""

    def carry_entries(self, parameter: nn.Parameter, carry: Callable[[Tensor], Tensor]) -> None: ...


def carry_entries(optimizer: Optimizer, parameter: nn.Parameter, carry: Callable[[Tensor], Tensor]) -> None:
    """Replace every state tensor that has the parameter's shape by what `carry` makes of it."""
    state = optimizer.state.get(parameter, {})
    for key, value in state.items():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            state[key] = carry(value)
    if isinstance(optimizer, CarriesEntries):
        optimizer.carry_entries(parameter, carry)


def tensors_like(optimizer: Optimizer, parameter: nn.Parameter) -> dict[str, Tensor]:
    """The floating-point state tensors of `parameter` that have its shape, by name."""
    return {
        key: value
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor) and value.shape == parameter.shape and value.is_floating_point()
    }


@torch.no_grad()
def restart_entries(
    optimizer: Optimizer, parameter: nn.Parameter, restart: Tensor, mask: Tensor, *, dense_state: bool = False
) -> None:
    """Give the entries in `restart` fresh optimizer state, zero where inactive.

    Momentum and sums begin at zero. Second moments of active entries begin at the mean of the tensor's other
    active ones: from zero, under a global step count, the first step of a grown weight would be
    1 / sqrt(1 - beta2) times the learning rate.
    restart, mask: bool, of the parameter's shape. dense_state: moments are those of dense gradients and stay as they
    are; only averages begin anew.
    """
    moments = {} if dense_state else tensors_like(optimizer, parameter)
    for key, tensor in moments.items():
        tensor.masked_fill_(restart, 0.0)
        if key in SECOND_MOMENTS:
            others = mask & ~restart
            count = int(others.count_nonzero())
            if count:
                tensor.masked_fill_(restart & mask, float(tensor[others].double().mean()))
    if isinstance(optimizer, RestartsEntries):
        optimizer.restart_entries(parameter, restart)

"""What happens to an optimizer's state when the topology of a weight changes."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer

from sparse_rnn.optim.moving_average import AVERAGE

SECOND_MOMENTS = frozenset({"exp_avg_sq", "max_exp_avg_sq", "square_avg"})


@runtime_checkable
class RestartsEntries(Protocol):
    """An optimizer that keeps state of its own and restarts single entries of it itself, as AveragedSGD does."""

    def restart_entries(self, parameter: nn.Parameter, restart: Tensor) -> None: ...


@runtime_checkable
class CarriesEntries(Protocol):
    """An optimizer that keeps tensors of a parameter's shape outside `state`, and stores them anew itself."""

    def carry_entries(self, parameter: nn.Parameter, carry: Callable[[Tensor], Tensor]) -> None: ...


def optimizers_within(optimizer: Optimizer) -> list[Optimizer]:
    """The optimizer and those that it wraps in its attributes, as SAM, Lookahead and Accelerate's do."""
    found: list[Optimizer] = []
    waiting: list[Any] = [optimizer]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Optimizer) and not any(each is known for known in found):
            found.append(each)
            waiting += [inner for value in vars(each).values() for inner in _elements(value)]
    return found


def _elements(value: object) -> Iterable[object]:
    return value if isinstance(value, list | tuple) else (value,)


def carry_entries(optimizer: Optimizer, parameter: nn.Parameter, carry: Callable[[Tensor], Tensor]) -> None:
    """Replace every state tensor of the parameter's shape by `carry(tensor)`, for entries that are stored anew."""
    state = optimizer.state.get(parameter, {})
    for key, value in state.items():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            state[key] = carry(value)
    if isinstance(optimizer, CarriesEntries):
        optimizer.carry_entries(parameter, carry)


def tensors_like(optimizer: Optimizer, parameter: nn.Parameter) -> dict[str, Tensor]:
    """The floating-point state tensors of `parameter` that have its shape, by name, such as `exp_avg`.

    Those of wrapped optimizers are among them; a name that occurs again has a number before it, as in `1.exp_avg`.
    """
    found: dict[str, Tensor] = {}
    for number, each in enumerate(optimizers_within(optimizer)):
        for key, value in getattr(each, "state", {}).get(parameter, {}).items():
            if not (isinstance(value, Tensor) and value.shape == parameter.shape and value.is_floating_point()):
                continue
            if not any(value is known for known in found.values()):
                found[f"{number}.{key}" if key in found else key] = value
    return found


@torch.no_grad()
def restart_entries(
    optimizer: Optimizer, parameter: nn.Parameter, restart: Tensor, mask: Tensor, *, dense_state: bool = False
) -> None:
    """Give the entries in `restart` fresh optimizer state: zero, but the mean for second moments of active entries.

    restart, mask: bool, of the parameter's shape. dense_state: the moments are those of dense gradients and stay as
    they are; only averages restart.
    """
    # Adam divides by the root of the second moment v. From v = 0, v after the first step is (1 - beta2) g^2, and the
    # correction for a zero start is long over, since steps are counted globally: that step would be 1 / sqrt(1 - beta2)
    # times the learning rate, 31.6 times with beta2 = 0.999. From the mean of the other weights it is an ordinary step.
    for key, tensor in tensors_like(optimizer, parameter).items():
        if dense_state and key != AVERAGE:
            continue
        tensor.masked_fill_(restart, 0.0)
        if key.rpartition(".")[2] in SECOND_MOMENTS:
            others = mask & ~restart
            count = int(others.count_nonzero())
            if count:
                tensor.masked_fill_(restart & mask, float(tensor[others].double().mean()))
    for each in optimizers_within(optimizer):
        if isinstance(each, RestartsEntries):
            each.restart_entries(parameter, restart)


def restart_history(optimizer: Optimizer) -> None:
    """Let L-BFGS forget its past: that holds directions in all weights at once, removed ones among them."""
    for each in optimizers_within(optimizer):
        if isinstance(each, LBFGS):
            each.state.clear()

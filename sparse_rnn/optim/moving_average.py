"""An exponential moving average of the weights, kept by any of torch's optimizers.

It is a tensor in the optimizer's state of each parameter, like Adam's moments: so it is saved, stored and restarted as
these are. A removed entry has the average zero. A grown one starts at zero, which is its value.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparse_rnn.optim.averaged_sgd import AveragedSGD

AVERAGE = "weight_average"


def keep_moving_average(optimizer: Optimizer, decay: float) -> None:
    """Let every step of an optimizer be followed by a <- decay a + (1 - decay) w, for every weight w that it moves.

    The average a of a weight begins with its value after the first step. It takes as much memory as the weight.
    """

    def follow(optimizer: Optimizer, *_: Any) -> None:
        averages: list[Tensor] = []
        values: list[Tensor] = []
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            state = optimizer.state[parameter] if parameter.grad is not None else optimizer.state.get(parameter, {})
            if AVERAGE in state:
                averages.append(state[AVERAGE])
                values.append(parameter.data)
            elif parameter.grad is not None:  # else an optimizer would take its own state for initialised
                state[AVERAGE] = parameter.detach().clone()
        if averages:
            torch._foreach_lerp_(averages, values, 1 - decay)

    optimizer.register_step_post_hook(torch.no_grad()(follow))


@contextmanager
def averaged_weights(optimizer: Optimizer) -> Iterator[bool]:
    """While entered, parameters hold their averages, if there are any, which it yields; the raw values come back.

    The averages are AveragedSGD's, or those of `keep_moving_average`.
    """
    if isinstance(optimizer, AveragedSGD):
        with optimizer.averaged():
            yield optimizer.averaging
        return
    averages = {p: state[AVERAGE] for p, state in optimizer.state.items() if AVERAGE in state}
    raw = {parameter: parameter.data.clone() for parameter in averages}
    try:
        with torch.no_grad():
            for parameter, average in averages.items():
                parameter.copy_(average)
        yield bool(averages)
    finally:
        with torch.no_grad():
            for parameter, value in raw.items():
                parameter.copy_(value)

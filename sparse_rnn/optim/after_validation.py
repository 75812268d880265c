"""What happens to an optimizer in the course of training: learning rates rise and fall, averaging starts."""

import math
from collections.abc import Sequence
from typing import Any, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from sparse_rnn.optim.averaged_sgd import AveragedSGD


class Schedule(Protocol):
    """Called before every step, and once per epoch with the validation loss; its state is part of a checkpoint."""

    def before_step(self, progress: float) -> None:
        """Set what a step needs; progress: the share of training that is done after it, in (0, 1]."""

    def step(self, valid_loss: float, epoch: int) -> bool:
        """Take note of the loss of epoch `epoch` (from 1); returns whether averaging has just started or restarted."""

    def facts(self) -> dict[str, float]:
        """What is logged of it, by name."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class ConstantRate:
    """The learning rate is constant."""

    def before_step(self, progress: float) -> None:
        """Leaves the optimizer alone."""

    def step(self, valid_loss: float, epoch: int) -> bool:
        """Leaves the optimizer alone; returns False."""
        return False

    def facts(self) -> dict[str, float]:
        """Nothing to log beyond the learning rate, which the trainer logs."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """An empty state: the learning rate follows from the epoch."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is nothing to restore."""


class WarmupCosine(ConstantRate):
    """The learning rate rises linearly in the share `warmup` of training, then falls in a cosine to `factor` of it."""

    def __init__(self, optimizer: Optimizer, warmup: float, factor: float) -> None:
        self._optimizer, self._warmup, self._factor = optimizer, warmup, factor
        self._rates = [group["lr"] for group in optimizer.param_groups]

    def before_step(self, progress: float) -> None:
        """Set the learning rate of the step that ends at `progress`."""
        if progress < self._warmup:
            share = progress / self._warmup
        else:
            falling = (progress - self._warmup) / (1 - self._warmup)
            share = self._factor + (1 - self._factor) * (1 + math.cos(math.pi * falling)) / 2
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * share


class StepDecay(ConstantRate):
    """Multiplies the learning rate by `factor` at the end of epoch `after`, and of every `every`-th epoch after it."""

    def __init__(self, optimizer: Optimizer, factor: float, after: int, every: int) -> None:
        self._optimizer, self._factor, self._after, self._every = optimizer, factor, after, every
        self._rates = [group["lr"] for group in optimizer.param_groups]

    def step(self, valid_loss: float, epoch: int) -> bool:
        """Set the learning rate of the epoch after `epoch`; returns False."""
        decays = 1 + (epoch - self._after) // self._every if epoch >= self._after else 0
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self._factor**decays
        return False


class Plateau(ConstantRate):
    """Multiplies the learning rate by `factor` after more than `patience` epochs in a row without a new best loss."""

    def __init__(self, optimizer: Optimizer, factor: float, patience: int) -> None:
        self._plateau = ReduceLROnPlateau(optimizer, factor=factor, patience=patience, threshold=0.0)

    def step(self, valid_loss: float, epoch: int) -> bool:
        """Take note of the loss, and lower the learning rate if it is time; returns False."""
        self._plateau.step(valid_loss)
        return False

    def state_dict(self) -> dict[str, Any]:
        """The best loss and the number of epochs without a new one."""
        return {"best": float(self._plateau.best), "bad": self._plateau.num_bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; the learning rate is part of the optimizer's state."""
        self._plateau.best, self._plateau.num_bad_epochs = state["best"], state["bad"]


class NonMonotonicTrigger(ConstantRate):
    """Starts averaging once the loss is worse than the best of more than `nonmono` epochs ago (Merity et al. 2018).

    If nothing has triggered it before, averaging starts at the end of epoch `latest`; the log then says `forced`.
    At the end of each epoch in `restarts`, running averages start anew.
    """

    def __init__(
        self, optimizer: AveragedSGD, nonmono: int, latest: int | None = None, restarts: Sequence[int] = ()
    ) -> None:
        self._optimizer, self._nonmono, self._latest, self._restarts = optimizer, nonmono, latest, restarts
        self._losses: list[float] = []
        self.epoch: int | None = None
        self.forced = False

    def step(self, valid_loss: float, epoch: int) -> bool:
        """Take note of the loss, and start or restart the averages if it is time; returns whether they were."""
        if self.epoch is not None:
            if epoch in self._restarts:
                self._optimizer.start_averaging()
            return epoch in self._restarts
        # The last `nonmono` losses are left out: a loss that is worse only than recent ones may be noise, but one that
        # is worse than the best of more epochs ago means that training has stopped making progress.
        earlier = self._losses[: -self._nonmono] if self._nonmono else self._losses
        stalled = bool(earlier) and valid_loss > min(earlier)
        self._losses.append(valid_loss)
        self.forced = not stalled and self._latest is not None and epoch >= self._latest
        if stalled or self.forced:
            self.epoch = epoch
            self._optimizer.start_averaging()
        return self.epoch is not None

    def facts(self) -> dict[str, float]:
        """The epoch of the trigger, once there is one, and whether it was forced."""
        if self.epoch is None:
            return {}
        return {"averaging/trigger_epoch": self.epoch, "averaging/forced": float(self.forced)}

    def state_dict(self) -> dict[str, Any]:
        """The losses so far, the epoch of the trigger, and whether it was forced."""
        return {"losses": list(self._losses), "epoch": self.epoch, "forced": self.forced}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._losses, self.epoch, self.forced = list(state["losses"]), state["epoch"], state["forced"]

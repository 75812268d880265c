"""What happens to an optimizer after each validation."""

from collections.abc import Sequence
from typing import Any, Protocol

from torch.optim import Optimizer
from torch.optim.lr_scheduler import ReduceLROnPlateau

from sparse_rnn.optim.averaged_sgd import AveragedSGD


class Schedule(Protocol):
    """Called once an epoch with the validation loss; its state is part of a checkpoint."""

    def step(self, valid_loss: float, epoch: int) -> bool:
        """Note the loss of epoch `epoch` (from 1); returns whether averaging has begun or begun anew just now."""

    def facts(self) -> dict[str, float]:
        """What the logs say of it."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class ConstantRate:
    """The learning rate stays as it is."""

    def step(self, valid_loss: float, epoch: int) -> bool:
        """Nothing to do."""
        return False

    def facts(self) -> dict[str, float]:
        """Nothing beyond the learning rate."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Empty."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Nothing to restore."""


class StepDecay(ConstantRate):
    """The learning rate times `factor` at the end of epoch `after`, and again every `every` epochs behind it."""

    def __init__(self, optimizer: Optimizer, factor: float, after: int, every: int) -> None:
        self._optimizer, self._factor, self._after, self._every = optimizer, factor, after, every
        self._rates = [group["lr"] for group in optimizer.param_groups]

    def step(self, valid_loss: float, epoch: int) -> bool:
        """Set the learning rate of the epoch behind `epoch`."""
        decays = 1 + (epoch - self._after) // self._every if epoch >= self._after else 0
        for group, rate in zip(self._optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * self._factor**decays
        return False


class Plateau:
    """The learning rate times `factor` after more than `patience` epochs in a row without a new best loss."""

    def __init__(self, optimizer: Optimizer, factor: float, patience: int) -> None:
        self._plateau = ReduceLROnPlateau(optimizer, factor=factor, patience=patience, threshold=0.0)

    def step(self, valid_loss: float, epoch: int) -> bool:
        """Note the loss; never starts an average."""
        self._plateau.step(valid_loss)
        return False

    def facts(self) -> dict[str, float]:
        """Nothing beyond the learning rate."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Best loss and the number of bad epochs."""
        return {"best": float(self._plateau.best), "bad": self._plateau.num_bad_epochs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore best loss and the number of bad epochs."""
        self._plateau.best, self._plateau.num_bad_epochs = state["best"], state["bad"]


class NonMonotonicTrigger:
    """Starts averaging once the loss is worse than the best of more than `nonmono` epochs ago (Merity et al. 2018).

    Averaging starts at the end of epoch `latest` if nothing has triggered it by then; the log says `forced`.
    At each epoch in `restarts`, averages that run begin anew.
    """

    def __init__(
        self, optimizer: AveragedSGD, nonmono: int, latest: int | None = None, restarts: Sequence[int] = ()
    ) -> None:
        self._optimizer, self._nonmono, self._latest, self._restarts = optimizer, nonmono, latest, restarts
        self._losses: list[float] = []
        self.epoch: int | None = None
        self.forced = False

    def step(self, valid_loss: float, epoch: int) -> bool:
        """Note the loss and start or restart the averages if it is time."""
        if self.epoch is not None:
            if epoch in self._restarts:
                self._optimizer.start_averaging()
            return epoch in self._restarts
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
        """Losses so far and the epoch of the trigger."""
        return {"losses": list(self._losses), "epoch": self.epoch, "forced": self.forced}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore losses and trigger."""
        self._losses, self.epoch, self.forced = list(state["losses"]), state["epoch"], state["forced"]

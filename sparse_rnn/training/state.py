"""Where training is."""

from dataclasses import dataclass, field

from sparse_rnn.training.tasks.base import Totals


class Stopped(Exception):
    """The run was asked to stop; its state is saved."""


class Diverged(RuntimeError):
    """A loss that is not a number, or infinite."""


@dataclass
class RunState:
    """Where training is: `batch` batches of epoch `epoch` (from 0) are done, `step` in all, which read `tokens` in
    `seconds` of training steps alone.

    `totals`: of this epoch; `recent_loss`, `recent_steps`: since the last row of training loss.
    `best`: metrics of the best validation, that of epoch `best_epoch` (from 1).
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    totals: Totals = field(default_factory=Totals)
    recent_loss: float = 0.0
    recent_steps: int = 0
    tokens: int = 0
    seconds: float = 0.0
    epoch_seconds: float = 0.0
    best: dict[str, float] = field(default_factory=dict)
    best_epoch: int = 0

    def next_epoch(self) -> None:
        """Begin another epoch."""
        self.epoch, self.batch, self.totals, self.epoch_seconds = self.epoch + 1, 0, Totals(), 0.0

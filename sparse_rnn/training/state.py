"""How far training is."""

from dataclasses import dataclass, field

from sparse_rnn.data.batches import Batch
from sparse_rnn.training.tasks.base import Totals


class Stopped(Exception):
    """The run was asked to stop."""


@dataclass
class RunState:
    """How far training is, as stored in a checkpoint: `batch` batches of epoch `epoch` (from 0) are done.

    step: optimizer steps of all epochs, which read `tokens` in `seconds`, the time of training steps alone.
    totals, epoch_seconds: sums over this epoch. recent_loss, recent_steps: sums since the last row of training loss.
    best: metrics of the best validation, which was that of epoch `best_epoch` (from 1).
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

    def count_step(self, batch: Batch) -> None:
        """Add what a training step has read; what it computed is added up on the device."""
        self.step, self.batch, self.recent_steps = self.step + 1, batch.index + 1, self.recent_steps + 1
        self.totals.targets += batch.targets.numel()
        self.totals.tokens += batch.tokens
        self.tokens += batch.tokens

    def count_seconds(self, seconds: float) -> None:
        """Add the time that training took."""
        self.seconds, self.epoch_seconds = self.seconds + seconds, self.epoch_seconds + seconds

    def take_recent_loss(self) -> float:
        """The mean training loss since the last call."""
        mean = self.recent_loss / self.recent_steps
        self.recent_loss, self.recent_steps = 0.0, 0
        return mean

    @property
    def tokens_per_second(self) -> float:
        """Training tokens per second of this epoch's steps."""
        return self.totals.tokens / self.epoch_seconds

    def next_epoch(self) -> None:
        """Begin another epoch."""
        self.epoch, self.batch, self.totals, self.epoch_seconds = self.epoch + 1, 0, Totals(), 0.0

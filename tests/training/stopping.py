"""Runs that stop at a chosen moment, as if a signal had come then, or whose losses are not numbers from then on."""

from typing import Any

import pytest
from run_helpers import Train

from sparse_rnn.training import session
from sparse_rnn.training.trainer import Trainer

LAST = -1  # in place of a number of windows: all of them
Moment = tuple[str, int, int]


class StoppedAt(Trainer):
    """Stops at one moment: train, valid or test, in which epoch (from 1), after how many windows."""

    moment: Moment
    work, done = "train", 0

    def evaluate_and_keep_best(self) -> dict[str, Any]:
        self.work, self.done = "valid", 0
        valid = super().evaluate_and_keep_best()
        self.work = "train"
        return valid

    def finish(self) -> dict[str, Any]:
        self.work, self.done = "test", 0
        return super().finish()

    def stop_if_requested(self) -> None:
        self.done += 1
        done = self.state.batch if self.work == "train" else self.done
        kind, epoch, windows = self.moment
        wanted = len(self.batches) if windows == LAST else windows
        self.stop_requested = (self.work, self.state.epoch + 1, done) == (kind, epoch, wanted)
        super().stop_if_requested()


def poisoned_from(step: int) -> type[Trainer]:
    """A trainer one of whose weights is not a number once so many steps are done."""

    class Poisoned(Trainer):
        def train_step(self, batch: Any) -> None:
            if self.state.step == step:
                self.model.decoder.bias.data[3] = float("nan")
            super().train_step(batch)

    return Poisoned


def stop_at(monkeypatch: pytest.MonkeyPatch, train_here: Train, overrides: list[str], moment: Moment) -> None:
    """Train until `moment`."""
    with monkeypatch.context() as patch:
        patch.setattr(session, "Trainer", StoppedAt)
        patch.setattr(StoppedAt, "moment", moment, raising=False)
        with pytest.raises(SystemExit):
            train_here(overrides)

"""Runs for the tests of the logs: real ones that train for a second, and segments written by the real client."""

import multiprocessing
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import wandb

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import as_dict, run_id
from sparse_rnn.runs.folder import SCHEMA, RunFolder, runs_root
from sparse_rnn.training import session
from sparse_rnn.training.trainer import Trainer

SMALL = (
    *("dataset=pydoc", "budget=smoke", "model=stacked_lstm", "model.hidden=8", "sparsifier=selfish", "threads=1"),
    *("logger=wandb", "device=cpu", "checkpoint.every_minutes=0.00001"),
)


class Interrupted(Trainer):
    """A trainer that sends its own process a signal once some epochs are done."""

    sent, after = signal.SIGTERM, 2

    def evaluate_and_keep_best(self) -> dict[str, Any]:
        """Evaluate, after the signal if it is time for it."""
        if self.state.epoch == self.after:
            signal.raise_signal(self.sent)
        return super().evaluate_and_keep_best()


def train(*overrides: str) -> RunFolder:
    """Train a small run in this process."""
    asked = [*SMALL, *overrides]
    run = compose_run(asked)
    try:
        session.train(run, asked)
    finally:
        wandb.teardown()  # ends W&B's own process, which may not have written everything yet
    return RunFolder(runs_root() / run_id(run))


def stop(monkeypatch: pytest.MonkeyPatch, *overrides: str, after: int = 2) -> None:
    """Start or resume a small run that SIGTERM stops after some epochs."""
    with monkeypatch.context() as patch:
        patch.setattr(session, "Trainer", Interrupted)
        patch.setattr(Interrupted, "after", after)
        with pytest.raises(SystemExit):
            train(*overrides)


def kill(*overrides: str, after: int = 2) -> None:
    """Start or resume a small run in its own process, which SIGKILL ends after some epochs."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sparse_rnn.training.session", "wandb"])
    process = context.Process(target=_be_killed, args=(dict(os.environ), after, overrides))
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL


def _be_killed(environment: Mapping[str, str], after: int, overrides: Sequence[str]) -> None:
    os.environ.update(environment)
    os.environ.pop("WANDB_SERVICE", None)  # of the process of the tests
    session.Trainer = Interrupted
    Interrupted.sent, Interrupted.after = signal.SIGKILL, after
    train(*overrides)


def config_of(*overrides: str, schema: int = SCHEMA) -> dict[str, Any]:
    """A configuration as it is logged, with the provenance of the run."""
    environment = {"host": "here", "commit": "c0ffee", "modified": False}
    provenance = {"schema": schema, "sizes": [5], "started": 1.5, "environment": environment, "device": "cpu"}
    return as_dict(compose_run([*SMALL, *overrides])) | {"record": provenance}


def write_segment(
    folder: Path,
    rows: Iterable[Mapping[str, Any]],
    *,
    config: Mapping[str, Any] | None = None,
    name: str = "a",
    exit_code: int = 0,
) -> Path:
    """A log that W&B's real client writes below `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    run = wandb.init(
        id=name,
        name=name,
        group="group",
        tags=["tag"],
        mode="offline",
        project="sparse_rnn",
        dir=folder,
        config=dict(config_of() if config is None else config),
        settings=wandb.Settings(console="off", silent=True, x_disable_stats=True),
    )
    for row in rows:
        run.log(dict(row))
    run.finish(exit_code=exit_code)
    wandb.teardown()  # as in `train`
    return next(folder.glob(f"wandb/offline-run-*/run-{name}.wandb"))


def epoch(number: int, loss: float = 1.0, **others: Any) -> dict[str, Any]:
    """The row of an epoch of ten steps."""
    return {"step": 10 * number, "epoch": number, "valid/loss": loss, **others}


def last(number: int, loss: float = 1.0) -> dict[str, Any]:
    """The last row of a finished run of some epochs."""
    return {"step": 10 * number, "epoch": number, "best/valid/loss": loss, "best/epoch": number}

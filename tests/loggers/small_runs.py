"""Runs of a second that stop, are killed, or wait for something, and what a store has of them."""

import json
import multiprocessing
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id
from sparse_rnn.runs.folder import RunFolder, runs_root
from sparse_rnn.runs.mlflow_store import RUN_ID, connect
from sparse_rnn.training import session
from sparse_rnn.training.trainer import Trainer

SMALL = (
    *("dataset=pydoc", "budget=smoke", "model=stacked_lstm", "model.hidden=8", "sparsifier=selfish", "threads=1"),
    *("device=cpu", "checkpoint.every_minutes=0.00001"),
)


def folder_of(*overrides: str) -> RunFolder:
    return RunFolder(runs_root() / run_id(compose_run([*SMALL, *overrides])))


def train(*overrides: str) -> RunFolder:
    """Train a small run in this process."""
    asked = [*SMALL, *overrides]
    session.train(compose_run(asked), asked)
    return folder_of(*overrides)


def rows_of(folder: RunFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in folder.metrics.read_text().splitlines()]


def record_of(folder: RunFolder) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(folder.record.read_text())
    return record


def when_an_epoch_is_logged(monkeypatch: pytest.MonkeyPatch, do: Mapping[int, Callable[[], None]]) -> None:
    """Call these functions, each once the epoch of its number, from 1, is logged."""
    original = Trainer.log_epoch

    def log_epoch(self: Trainer, *arguments: Any) -> None:
        original(self, *arguments)
        do.get(self.state.epoch + 1, lambda: None)()

    monkeypatch.setattr(Trainer, "log_epoch", log_epoch)


def stop(monkeypatch: pytest.MonkeyPatch, *overrides: str, after: int) -> None:
    """Start or resume a small run that SIGTERM stops after an epoch."""
    with monkeypatch.context() as patch:
        when_an_epoch_is_logged(patch, {after: lambda: signal.raise_signal(signal.SIGTERM)})
        with pytest.raises(SystemExit):
            train(*overrides)


def in_own_process(*overrides: str, killed_after: int = 0) -> multiprocessing.process.BaseProcess:
    """A small run in a process of its own, which SIGKILL ends once it has logged an epoch."""
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_train_there, args=(dict(os.environ), killed_after, overrides))
    process.start()
    return process


def _train_there(environment: Mapping[str, str], killed_after: int, overrides: Sequence[str]) -> None:
    os.environ.update(environment)
    patch = pytest.MonkeyPatch()
    when_an_epoch_is_logged(patch, {killed_after: lambda: signal.raise_signal(signal.SIGKILL)})
    train(*overrides)


def runs_in(store: str, folder: RunFolder) -> list[Any]:
    """The runs of MLflow's that are of one of ours."""
    client = connect(store)
    experiments = [each.experiment_id for each in client.search_experiments()]
    return list(client.search_runs(experiments, f"tags.`{RUN_ID}` = '{folder.path.name}'"))


def values_in(store: str, run: Any) -> list[tuple[int, str, float]]:
    """Every value that a store has of a run, as step, key and value."""
    client = connect(store)
    histories = [client.get_metric_history(run.info.run_id, key) for key in run.data.metrics]
    return sorted((each.step, each.key, each.value) for history in histories for each in history)


def values_of(folder: RunFolder) -> list[tuple[int, str, float]]:
    """The same out of metrics.jsonl."""
    return sorted((row["step"], key, value) for row in rows_of(folder) for key, value in row.items() if key != "step")

"""One process's work on one run: folder, lock, signals, record."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from sparse_rnn.config.identity import as_dict, run_id
from sparse_rnn.config.schema import Run
from sparse_rnn.config.stored import differences
from sparse_rnn.core.device import make_device
from sparse_rnn.core.errors import ConfigError, DamagedFile, RunFailed
from sparse_rnn.core.lock import RunLock
from sparse_rnn.core.wording import duration, shown_metric
from sparse_rnn.data.base import Data
from sparse_rnn.runs.folder import PROVENANCE, SCHEMA, RunFolder, read_record, runs_root
from sparse_rnn.runs.record import digest, environment, write_record
from sparse_rnn.runs.weights import keep_finished
from sparse_rnn.training.announcement import _announce, sizes_reached
from sparse_rnn.training.assembly import check_method
from sparse_rnn.training.loggers import Logger, Loggers, Terminal, WandB
from sparse_rnn.training.signals import stopping_on_signals
from sparse_rnn.training.state import Diverged, RunState, Stopped
from sparse_rnn.training.trainer import Trainer

FAILED = 1
FAILURES = (Diverged, DamagedFile, OSError, torch.OutOfMemoryError, MemoryError)


def train(run: Run, overrides: Sequence[str]) -> float:
    """Train a run to its end, or go on with it; returns the best validation loss. Raises ConfigError; ends
    the process with 128 + the signal's number if a signal stopped it."""
    config, device = as_dict(run), make_device(run.device)
    check_method(run, device)
    folder = RunFolder(runs_root() / run_id(run))
    terminal = Terminal(run.training.epochs, device.type == "cpu", run.budget.name)
    try:
        with _usable(folder):
            finished = _finished(folder, config, terminal)
        if finished is not None:
            return finished
        data = run.dataset.load().limited(run.budget.train_tokens, run.budget.eval_tokens)
        with _usable(folder):
            folder.path.mkdir(parents=True, exist_ok=True)
            with RunLock(folder.lock):
                finished = _finished(folder, config, terminal)
                return _work(run, data, folder, device, terminal, overrides) if finished is None else finished
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None


@contextmanager
def _usable(folder: RunFolder) -> Iterator[None]:
    """What a folder that cannot be read or written raises: a ConfigError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(
            f"The run folder {folder.path} cannot be used ({reason}): choose another with SPARSE_RNN_RUNS."
        ) from None


def _finished(folder: RunFolder, config: dict[str, Any], terminal: Terminal) -> float | None:
    """The result of a run that is finished already; raises ConfigError if the folder holds another configuration."""
    record = read_record(folder)
    if record is None:
        return None
    if changed := differences(record["config"], config):
        raise ConfigError(
            f"{folder.path} is stale: it holds a run with other values of {', '.join(changed)}; "
            "move it away to train anew."
        )
    if record["status"] != "finished":
        return None
    keep_finished(folder.path, record["config"]["checkpoint"]["keep"])  # it may have been killed just before
    terminal.say(f"{folder.path} is finished: {summary(record)}")
    return float(record["results"]["valid/loss"])


def _work(
    run: Run, data: Data, folder: RunFolder, device: torch.device, terminal: Terminal, overrides: Sequence[str]
) -> float:
    record = _open_record(run, data, folder, device, terminal)
    loggers, exit_code = Loggers([]), FAILED
    try:
        trainer = Trainer(run, data, folder, device)
        with stopping_on_signals(trainer) as hand_on:
            _announce(run, data, trainer, terminal, overrides)
            record |= {**sizes_reached(trainer), "device": str(device), "backend": trainer.backend.name}
            loggers = Loggers(_open_loggers(run, record, trainer, terminal))
            results = _fit(trainer, loggers, terminal, record, hand_on)
        exit_code = 0
    except Stopped:
        exit_code = 0  # else W&B would call it failed
        terminal.say(f"Stopped after step {trainer.state.step}, saved: the same command goes on from there.")
        raise SystemExit(128 + trainer.stop_signal) from None
    except FAILURES as error:
        _fail(folder, record, error)
    except Exception as error:
        write_record(folder, record | {"status": "failed", "error": f"{type(error).__name__}: {error}"})
        raise
    finally:
        loggers.finish(exit_code)
    record |= {"status": "finished", **speed(trainer.state), "finished": time.time(), "results": results}
    record |= sizes_reached(trainer)  # of the weights that were kept: with ISS they are known only now
    record["digest"] = digest(record["config"], folder.metrics, trainer.model, trainer.topology)
    write_record(folder, record)
    keep_finished(folder.path, run.checkpoint.keep)
    terminal.say(f"{folder.path}: {summary(record)}")
    return float(results["valid/loss"])


def _fit(
    trainer: Trainer, loggers: Loggers, terminal: Terminal, record: dict[str, Any], hand_on: Callable[[], bool]
) -> dict[str, Any]:
    """Train to the end, beyond stops for signals that somebody else handles; returns the results."""
    while True:
        try:
            return trainer.fit(loggers, terminal)
        except Stopped:
            write_record(trainer.folder, record | {"status": "stopped", **speed(trainer.state)})
            if not hand_on():
                raise
            write_record(trainer.folder, record)


def _open_record(run: Run, data: Data, folder: RunFolder, device: torch.device, terminal: Terminal) -> dict[str, Any]:
    """The record of a run that begins or goes on, written with status running."""
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    old = read_record(folder) or {}
    if old.get("data_sha256", data.sha256) != data.sha256:
        raise ConfigError(f"{folder.path} was begun on other data (their SHA-256 differs); move it away to train anew.")
    threads = torch.get_num_threads()
    if old.get("threads", threads) != threads and folder.checkpoint.exists():
        terminal.say(
            f"warning: this run was begun with threads={old['threads']} and goes on with {threads}: "
            "its numbers will not be bit for bit those of an undisturbed run"
        )
    record = {
        "schema": SCHEMA,
        "run_id": folder.path.name,
        "status": "running",
        "config": as_dict(run),
        "data_sha256": data.sha256,
        data.unit: data.counts,
        "sizes": list(data.sizes),
        "threads": threads,
        "started": old.get("started", time.time()),
        "environment": environment(device),
    }
    write_record(folder, record)
    return record


def speed(state: RunState) -> dict[str, float | None]:
    """What the record says of the time: seconds of training steps, those of all processes that worked on the run, and
    training tokens a second, None before the first step."""
    return {"seconds": state.seconds, "tokens_per_second": state.tokens / state.seconds if state.seconds else None}


def _open_loggers(run: Run, record: Mapping[str, Any], trainer: Trainer, terminal: Terminal) -> list[Logger]:
    loggers: list[Logger] = [trainer.rows, terminal]
    if run.logger.wandb:
        provenance = {key: record[key] for key in PROVENANCE}
        wandb = WandB(run.logger, record["run_id"], trainer.folder.path, record["config"] | {"record": provenance})
        for row in filter(wandb.lacks, trainer.rows.written()):
            wandb.row(row)
        loggers.append(wandb)
    return loggers


def _fail(folder: RunFolder, record: dict[str, Any], error: BaseException) -> None:
    """Record a failure and end with its sentence; the last good checkpoint stays."""
    sentence = str(error)
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        sentence = "Out of memory: lower training.batch or the size of the model."
    elif isinstance(error, OSError):
        sentence = f"{folder.path} cannot be written ({error.strerror or error}); the last checkpoint is intact."
    try:
        write_record(folder, record | {"status": "failed", "error": sentence})
    except OSError:
        sentence += " The record could not be written either."
    raise RunFailed(sentence) from error


def summary(record: dict[str, Any]) -> str:
    """One sentence on a finished run."""
    results = record["results"]
    metric = "accuracy" if "valid/accuracy" in results else "perplexity"
    return (
        f"valid {metric} {shown_metric(results, 'valid')}, test {shown_metric(results, 'test')} "
        f"({results['weights']} weights of epoch {results['best_epoch']}), {record['active_parameters']:,} active "
        f"parameters, sparsity {record['sparsity']:.4f}, {duration(record['seconds'])} of training."
    )

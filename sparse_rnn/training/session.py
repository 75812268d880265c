"""One process's work on one run: folder, lock, signals, record."""

import errno
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sparse_rnn.config.identity import as_dict, run_id
from sparse_rnn.config.schema import Run
from sparse_rnn.config.stored import differences
from sparse_rnn.core.device import device_failure, make_device, set_up_device
from sparse_rnn.core.errors import ConfigError, DamagedFile, DeviceLost, Diverged, RunFailed
from sparse_rnn.core.lock import RunLock
from sparse_rnn.core.metrics import metric_of
from sparse_rnn.core.output import safe_output
from sparse_rnn.core.wording import duration, shown_metric
from sparse_rnn.data.base import Data
from sparse_rnn.data.content import content, files_of
from sparse_rnn.runs.claim import claim
from sparse_rnn.runs.component_code import component_code, say_if_changed
from sparse_rnn.runs.folder import (
    SCHEMA,
    RunFolder,
    backend_so_far,
    has_results,
    keep_finished,
    read_record,
    runs_root,
)
from sparse_rnn.runs.other_data import earlier_run
from sparse_rnn.runs.parents import parent_of, what_a_parent_changes
from sparse_rnn.runs.record import digest, environment, write_record
from sparse_rnn.runs.vocabulary import save_vocabulary
from sparse_rnn.training.announcement import announce
from sparse_rnn.training.asked_for import asked_for
from sparse_rnn.training.assembly import check_method, load_data
from sparse_rnn.training.loggers.base import Loggers
from sparse_rnn.training.loggers.opening import check_loggers, open_loggers
from sparse_rnn.training.loggers.terminal import Terminal
from sparse_rnn.training.parameter_counts import recorded_sizes
from sparse_rnn.training.signals import stop_on_signals
from sparse_rnn.training.state import RunState, Stopped
from sparse_rnn.training.trainer import Trainer

FAILED = 1
SUMMARISED = {"results", "active_parameters", "sparsity", "seconds"}  # what the summary of a finished run needs
RESULTS = {"valid/loss", "weights", "best_epoch"}
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
FAILURES = (Diverged, DamagedFile, OSError)


@safe_output(required=False)
def train(run: Run, overrides: Sequence[str]) -> float:
    """Train a run to its end, or resume it; returns the best validation loss in nats. `overrides`: the command line's.

    Raises ConfigError, RunFailed if training fails, RunLocked if another process trains the run, and SystemExit with
    128 + the signal's number if a signal has stopped it.
    """
    if (parent := parent_of(run)) is not None:
        train(parent, [*overrides, *what_a_parent_changes(parent)])
    config, device = as_dict(run), device_of(run)
    set_up_device(device, run.precision, deterministic=run.deterministic)
    check_method(run, device)
    folder, data_sha256 = RunFolder(runs_root() / run_id(run)), content(run.dataset)
    check_loggers(run.logger, folder)
    terminal = Terminal(run.training.epochs, device.type == "cpu", run.budget.name)
    try:
        with _usable(folder):
            finished = _result_if_finished(folder, config, data_sha256, terminal)
        if finished is not None:
            say_if_changed(read_record(folder) or {}, run, terminal.say)
            return finished
        data = load_data(run)
        with _usable(folder):
            folder.path.mkdir(parents=True, exist_ok=True)
            with RunLock(folder.lock, on_wait=terminal.say):
                claim(folder)
                # While the data were read, another process may have finished the run.
                finished = _result_if_finished(folder, config, data_sha256, terminal)
                return _train_locked(run, data, folder, device, terminal, overrides) if finished is None else finished
    except KeyboardInterrupt:
        raise SystemExit(128 + signal.SIGINT) from None


def device_of(run: Run) -> torch.device:
    """The device that a run asks for; `auto` is the CPU if it asks for the sparse kernels. Raises ConfigError."""
    on_cpu = run.device == "auto" and run.sparsifier.backend == "sparse"
    return make_device("cpu" if on_cpu else run.device)


@contextmanager
def _usable(folder: RunFolder) -> Iterator[None]:
    """Raise ConfigError for a folder that cannot be read or written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(
            f"The run folder {folder.path} cannot be used ({reason}): choose another with SPARSE_RNN_RUNS."
        ) from None


def _result_if_finished(
    folder: RunFolder, config: dict[str, Any], data_sha256: str | None, terminal: Terminal
) -> float | None:
    """The best validation loss of a finished run, else None.

    data_sha256: of the data that are here; None: unknown. Raises ConfigError for the folder of another configuration,
    and where a run of this one was trained on other data.
    """
    record = read_record(folder)
    if record is None:
        if other := earlier_run(folder, config, data_sha256):
            raise _on_other_data(other)
        return None
    try:
        changed = differences(record["config"], config)
    except ConfigError as error:
        raise ConfigError(f"{folder.path} cannot be used: {error}") from None
    if changed:
        raise ConfigError(
            f"{folder.path} is stale: it holds a run with other values of {', '.join(changed)}; "
            "move it away to train from the start."
        )
    if data_sha256 not in (None, record["data_sha256"]):
        raise _on_other_data(folder.path)
    if record["status"] != "finished":
        return None
    if SUMMARISED - record.keys() or RESULTS - record["results"].keys() or not has_results(record):
        raise ConfigError(
            f"{folder.record} says that its run is finished and not with what results: move {folder.path} away to "
            "train from the start."
        )
    keep_finished(
        folder, record["config"].get("checkpoint", {}).get("keep", "best")
    )  # a process may have been killed just before
    terminal.say(f"{folder.path} is finished: {summary(record)}")
    return float(record["results"]["valid/loss"])


def _train_locked(
    run: Run, data: Data, folder: RunFolder, device: torch.device, terminal: Terminal, overrides: Sequence[str]
) -> float:
    """Train as the only process that does, and record how it ended."""
    record = _open_record(run, data, folder, device, terminal, overrides)
    save_vocabulary(folder, data)
    loggers, exit_code = Loggers([]), FAILED
    try:
        trainer = Trainer(run, data, folder, device)
        with stop_on_signals(trainer) as hand_over:
            announce(trainer, data, terminal, overrides)
            sizes = recorded_sizes(trainer.model, trainer.sparsifier)
            record |= {**sizes, "device": str(device), "backend": trainer.backend.name}
            write_record(folder, record)
            loggers = open_loggers(run.logger, record, folder, trainer.rows, terminal)
            results = _fit(trainer, loggers, terminal, record, hand_over)
        exit_code = 0
    except Stopped:
        exit_code = 0  # else W&B would call it failed
        terminal.say(f"Stopped after step {trainer.state.step}, saved: run the same command again to resume.")
        raise SystemExit(128 + trainer.stop_signal) from None
    except FAILURES as error:
        raise _recorded(RunFailed(_sentence(folder, error)), folder, record) from error
    except Exception as error:
        if failure := device_failure(error):
            raise _recorded(failure, folder, record) from error
        write_record(folder, record | {"status": "failed", "error": f"{type(error).__name__}: {error}"})
        raise
    finally:
        loggers.finish(exit_code)
    record |= {"status": "finished", **speed(trainer.state), "finished": time.time(), "results": results}
    record["metrics_sha256"] = trainer.rows.sha256
    record |= recorded_sizes(trainer.model, trainer.sparsifier)  # with ISS they are known only now
    record["digest"] = digest(record["config"], folder.metrics, trainer.model, trainer.topology)
    write_record(folder, record)
    loggers.recorded()
    keep_finished(folder, run.checkpoint.keep)
    terminal.say(f"{folder.path}: {summary(record)}")
    return float(results["valid/loss"])


def _fit(
    trainer: Trainer, loggers: Loggers, terminal: Terminal, record: dict[str, Any], hand_over: Callable[[], bool]
) -> dict[str, Any]:
    """Train to the end; returns the results. Training continues after a signal that is handed over."""
    while True:
        try:
            return trainer.fit(loggers, terminal)
        except Stopped:
            write_record(trainer.folder, record | {"status": "stopped", **speed(trainer.state)})
            if not hand_over():
                raise
            write_record(trainer.folder, record)


def _open_record(
    run: Run, data: Data, folder: RunFolder, device: torch.device, terminal: Terminal, overrides: Sequence[str]
) -> dict[str, Any]:
    """The record of a run that begins or resumes, written with status running."""
    if run.threads is not None:
        torch.set_num_threads(run.threads)
    old = read_record(folder) or {}
    if old.get("data_sha256", data.sha256) != data.sha256:
        raise _on_other_data(folder.path)
    so_far = {"backend": begun} if (begun := backend_so_far(folder)) else {}
    threads = torch.get_num_threads()
    if old.get("threads", threads) != threads and folder.checkpoint.exists():
        terminal.say(
            f"warning: this run started with threads={old['threads']} and resumes with {threads}: "
            "its numbers will not be bit for bit those of an uninterrupted run"
        )
    here = environment(device) | {"code": component_code(run)}
    if folder.checkpoint.exists():  # else it starts anew, with the code of now
        say_if_changed(old, run, terminal.say)
    if folder.checkpoint.exists() and (moved := changed_device(old, here, str(device))):
        terminal.say(
            f"warning: this run started on {moved}: its numbers will not be bit for bit those of an uninterrupted run"
        )
    record = {
        "schema": SCHEMA,
        "run_id": folder.path.name,
        "status": "running",
        "config": as_dict(run),
        "overrides": asked_for(overrides, as_dict(run)),
        "data_sha256": data.sha256,
        "data_files": files_of(as_dict(run.dataset)),
        data.unit: data.counts,
        "sizes": list(data.sizes),
        "threads": threads,
        "started": old.get("started", time.time()),
        "environment": here,
        **so_far,
        **({"parent": run_id(parent)} if (parent := parent_of(run)) else {}),
    }
    write_record(folder, record)
    return record


def _on_other_data(folder: Path) -> ConfigError:
    return ConfigError(
        f"{folder} was trained on other data (their SHA-256 differs): move it away to train from the start."
    )


def changed_device(old: Mapping[str, Any], here: Mapping[str, Any], device: str) -> str:
    """From where to where a run has moved, as a phrase; empty if device, kind of GPU and torch are the same."""
    before = old.get("environment", {})

    def place(environment: Mapping[str, Any], name: str) -> str:
        kind = name.partition(":")[0]
        model = environment.get("device_name", "?") if kind == "cuda" else "a CPU"
        return f"{model} with torch {environment.get('packages', {}).get('torch', '?')}"

    was, now = place(before, str(old.get("device", device))), place(here, device)
    return f"{was} and resumes on {now}" if before and was != now else ""


def speed(state: RunState) -> dict[str, float | None]:
    """What a record says of the time: seconds of training steps, summed over all processes that trained the run, and
    training tokens per second; None before the first step."""
    return {"seconds": state.seconds, "tokens_per_second": state.tokens / state.seconds if state.seconds else None}


def _sentence(folder: RunFolder, error: BaseException) -> str:
    """What to tell the user of one of FAILURES."""
    if isinstance(error, OSError):
        verb = "written" if error.errno in DISK_FULL else "used"
        saved = folder.has_checkpoint
        intact = "; the last checkpoint is intact" if saved else ""
        return f"{error.filename or folder.path} cannot be {verb} ({error.strerror or error}){intact}."
    return str(error)


def _recorded(failure: RunFailed, folder: RunFolder, record: dict[str, Any]) -> RunFailed:
    """The failure to raise, once the record says it; the last good checkpoint stays. A lost device stopped the run."""
    status = "stopped" if isinstance(failure, DeviceLost) else "failed"
    try:
        write_record(folder, record | {"status": status, "error": str(failure)})
    except OSError:
        return type(failure)(f"{failure} The record could not be written either.")
    return failure


def summary(record: dict[str, Any]) -> str:
    """One sentence on a finished run."""
    results = record["results"]
    metric = metric_of(results, "valid/").words
    return (
        f"valid {metric} {shown_metric(results, 'valid')}, test {shown_metric(results, 'test')} "
        f"({results['weights']} weights of epoch {results['best_epoch']}), {record['active_parameters']:,} active "
        f"parameters, sparsity {record['sparsity']:.4f}, {duration(record['seconds'])} of training."
    )

"""One process's work on one run: folder, lock, signals, record."""

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from sparse_rnn.build import check_method, make_device
from sparse_rnn.checkpoint import DamagedFile, keep_finished
from sparse_rnn.command_line import shown_metric
from sparse_rnn.config import Run, as_dict, compose_run, run_id
from sparse_rnn.data.datasets import Data
from sparse_rnn.lock import RunLock
from sparse_rnn.loggers import Logger, Loggers, Terminal, WandB, duration
from sparse_rnn.record import differences, digest, environment, write_record
from sparse_rnn.registry import ConfigError, RunFailed
from sparse_rnn.run_folder import PROVENANCE, SCHEMA, RunFolder, read_record, runs_root
from sparse_rnn.trainer import Diverged, Stopped, Trainer, TrainState

FAILED = 1
ENOUGH_STEPS = 1000
MANY_WEIGHTS = 0.5
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)  # the last is SLURM's, before the time limit
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


def speed(state: TrainState) -> dict[str, float | None]:
    """What the record says of the time: seconds of training steps, those of all processes that worked on the run, and
    training tokens a second, None before the first step."""
    return {"seconds": state.seconds, "tokens_per_second": state.tokens / state.seconds if state.seconds else None}


def sizes_reached(trainer: Trainer) -> dict[str, Any]:
    """What the record says of the size: parameters, sparsity kept; and the dense signal that growth reads."""
    signals = sorted(trainer.sparsifier.needs)
    signal = signals[0] if signals else None
    return {**trainer.parameter_counts(), "sparsity": trainer.sparsifier.final_sparsity, "signal": signal}


def _open_loggers(run: Run, record: Mapping[str, Any], trainer: Trainer, terminal: Terminal) -> list[Logger]:
    loggers: list[Logger] = [trainer.rows, terminal]
    if run.logger.wandb:
        provenance = {key: record[key] for key in PROVENANCE}
        wandb = WandB(run.logger, record["run_id"], trainer.folder.path, record["config"] | {"record": provenance})
        for row in filter(wandb.lacks, trainer.rows.written()):
            wandb.row(row)
        loggers.append(wandb)
    return loggers


def _announce(run: Run, data: Data, trainer: Trainer, terminal: Terminal, overrides: Sequence[str]) -> None:
    counts = sizes_reached(trainer)
    sizes = ", ".join(f"{n:,} {what}" for n, what in zip(data.sizes, ("words", "classes"), strict=False))
    terminal.say(f"{trainer.folder.path}  (recipe {run.recipe.name}, protocol {run.protocol.name})")
    if run.recipe.assumed:
        terminal.say(f"Assumed by the recipe: {run.recipe.assumed}.")
    if run.budget.name != "paper" and (changes := budget_changes(run, overrides)):
        terminal.say(f"budget={run.budget.name} changes {', '.join(changes)}.")
    terminal.say(
        f"{counts['active_parameters']:,} of {counts['parameters']:,} parameters active (sparsity "
        f"{counts['sparsity']:.4f}); {' / '.join(f'{n:,}' for n in data.counts.values())} {data.unit}, "
        f"{sizes}; {torch.get_num_threads()} threads"
    )
    if not trainer.backend.expected:
        terminal.say(f"Backend {trainer.backend.name}: {trainer.backend.reason}.")
    terminal.say(f"For comparison, {trainer.task.comparison()}.")
    if sentence := updates_too_often(run, len(trainer.task.batches(0))):
        terminal.say(sentence)
    if trainer.saved_by != trainer.backend.name:
        terminal.say(
            f"warning: this run was begun with backend={trainer.saved_by} and goes on with {trainer.backend.name}: its "
            "numbers will be those of an undisturbed run but for rounding"
        )
    if trainer.state.step:
        terminal.say(f"Going on after step {trainer.state.step}.")


def updates_too_often(run: Run, steps: int) -> str:
    """A warning if most weights are moved before new ones had time to grow; `steps`: those of an epoch."""
    method = run.sparsifier
    often = method.dynamic and method.update_interval == "epoch" and steps < ENOUGH_STEPS
    often = often and run.model.task == "language_modelling"  # ST-RNN's classifiers are updated this often
    if not often or method.removal_rate < MANY_WEIGHTS or run.budget.name == "smoke":
        return ""
    return (
        f"warning: in {steps:,} steps between topology updates (Penn Treebank: 1,328) new weights may not grow up: "
        f"choose a sparsifier.removal_rate lower than {method.removal_rate:g}"
    )


def budget_changes(run: Run, overrides: Sequence[str]) -> list[str]:
    """What a budget changed against the paper's, as `key old -> new`."""
    paper, own = as_dict(compose_run([o for o in overrides if not o.startswith("budget=")])), as_dict(run)
    return [
        f"{key} {_value(paper, key)} -> {_value(own, key)}"
        for key in differences(paper, own)
        if key not in ("budget.name", "budget.average_by")
    ]


def _value(config: dict[str, Any], key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        node = node[part]
    return node


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


@contextmanager
def stopping_on_signals(trainer: Trainer) -> Iterator[Callable[[], bool]]:
    """SIGTERM, Ctrl-C and SIGUSR2 stop the trainer at the next step; a second Ctrl-C ends the process as usual, the
    others may come several times: from SLURM, and from what started this process.

    A signal that somebody else handled before, as submitit does, is to be handed on once the trainer has saved: what is
    yielded does so, and returns whether training goes on, because their handler has returned.
    """
    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    old = {number: signal.getsignal(number) or signal.SIG_DFL for number in STOP_SIGNALS}
    others = {number: each for number, each in old.items() if callable(each) and each != signal.default_int_handler}
    waiting: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        trainer.stop_requested = True
        if number in others:
            waiting.append(number)
            return
        trainer.stop_signal = trainer.stop_signal or number
        if number == signal.SIGINT:
            signal.signal(number, old[signal.SIGINT])

    def hand_on() -> bool:
        if trainer.stop_signal or not waiting:
            return False
        trainer.stop_requested = False
        while waiting:
            number = waiting.pop(0)
            others[signal.Signals(number)](number, None)
        return True

    for number in STOP_SIGNALS:
        signal.signal(number, stop)
    try:
        yield hand_on
    finally:
        for number in STOP_SIGNALS:
            signal.signal(number, old[number])


def summary(record: dict[str, Any]) -> str:
    """One sentence on a finished run."""
    results = record["results"]
    metric = "accuracy" if "valid/accuracy" in results else "perplexity"
    return (
        f"valid {metric} {shown_metric(results, 'valid')}, test {shown_metric(results, 'test')} "
        f"({results['weights']} weights of epoch {results['best_epoch']}), {record['active_parameters']:,} active "
        f"parameters, sparsity {record['sparsity']:.4f}, {duration(record['seconds'])} of training."
    )

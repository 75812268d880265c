"""Loss and metric of a trained run on a split of its data."""

from pathlib import Path

import torch

from sparse_rnn.config.schema import Run
from sparse_rnn.core.device import make_device, set_up_device
from sparse_rnn.core.progress import bar
from sparse_rnn.data.base import Data
from sparse_rnn.inference.computing import computing_model, use_threads
from sparse_rnn.inference.exported import dense_model, exported_tokenizer, read_exported
from sparse_rnn.inference.load import (
    data_of,
    last_weights,
    load_best,
    load_data,
    load_tokenizer,
    read_run,
    reraise_damaged,
)
from sparse_rnn.inference.own_file import SPLIT, OwnFile, fitting_batch, read_own_file
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.training.assembly import make_task
from sparse_rnn.training.tasks.base import Task

BATCH_OF = {"train": "batch", "valid": "valid_batch", "test": "test_batch"}  # which key of `training` sets it


def evaluate_folder(
    folder: RunFolder, split: str, weights: str, *, batch: int | None, device: str, threads: int | None
) -> tuple[dict[str, float], str]:
    """Loss and metric of a run's split, and which weights they are of; raises ConfigError.

    batch: sequences side by side, None: as in training. threads: those of torch, None: as many as it chooses.
    """
    record, run = read_run(folder)
    _set_batch_and_threads(run, split, batch, threads)
    data, made = load_data(folder, record, run), _set_up_device(run, device)
    with reraise_damaged():
        return evaluate_run(run, data, folder, split, weights, made)


def evaluate_file(
    folder: RunFolder, name: str, weights: str, *, batch: int | None, device: str, threads: int | None
) -> tuple[dict[str, float], str, OwnFile]:
    """The same of a user's file, with what was read of it; neither the run's data nor a file of theirs is needed."""
    record, run = read_run(folder)
    _set_batch_and_threads(run, SPLIT, batch, threads)
    own = read_own_file(name, load_tokenizer(folder, record, run), run, record["sizes"])
    run.training.test_batch = fitting_batch(name, own, run.training.test_batch, asked=batch is not None)
    made = _set_up_device(run, device)
    with reraise_damaged():
        return *evaluate_run(run, own.data, folder, SPLIT, weights, made), own


def evaluate_exported(
    path: Path, split: str, name: str, *, batch: int | None, device: str, threads: int | None
) -> tuple[dict[str, float], str, OwnFile | None]:
    """The same of an exported model, whose run is not needed: on a user's file `name`, or on a split if it is empty.

    Which weights they are tells what computes, too: on the CPU, the kernels where they are faster.
    """
    with reraise_damaged():
        exported = read_exported(path)
        run, tokenizer = exported.run, exported_tokenizer(path, exported)
        _set_batch_and_threads(run, split, batch, threads)
        own = read_own_file(name, tokenizer, run, exported.sizes) if name else None
        if own:
            run.training.test_batch = fitting_batch(name, own, run.training.test_batch, asked=batch is not None)
        data = own.data if own else data_of(run, tokenizer.data_sha256, path)
        made = _set_up_device(run, device)
        if made.type == "cpu" and run.precision == "fp32":
            model, computed_by = computing_model(path, exported, windows=True)
        else:
            model, computed_by = dense_model(path, exported).to(made), f"dense weights on {made}"
    origin = f"{exported.metadata['weights']} weights, computed with {computed_by}"
    return _evaluated(make_task(run, data, model, made), split), origin, own


def _set_batch_and_threads(run: Run, split: str, batch: int | None, threads: int | None) -> None:
    use_threads(threads)
    if batch is not None:
        setattr(run.training, BATCH_OF[split], batch)


def _set_up_device(run: Run, device: str) -> torch.device:
    made = make_device(device)
    if made.type == "cpu" and run.precision == "tf32":
        run.precision = "fp32"  # which a CPU has instead
    set_up_device(made, run.precision, deterministic=run.deterministic)
    return made


def evaluate_run(
    run: Run, data: Data, folder: RunFolder, split: str, weights: str, device: torch.device
) -> tuple[dict[str, float], str]:
    """Loss and metric of a split, and which weights they are of. Raises ConfigError, DamagedFile."""
    if weights != "best":
        with last_weights(run, data, folder, weights, device) as (trainer, origin):
            return _evaluated(trainer.task, split), origin
    model, _, origin = load_best(run, data.sizes, folder)
    model.to(device)
    return _evaluated(make_task(run, data, model, device), split), origin


def _evaluated(task: Task, split: str) -> dict[str, float]:
    with bar(f"evaluating {split}", len(task.in_order(split))) as advance:
        return task.evaluate(split, lambda: advance(1))

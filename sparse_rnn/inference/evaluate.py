"""Loss and metric of a trained run on a split of its data."""

import torch

from sparse_rnn.config.schema import Run
from sparse_rnn.core.device import make_device, set_up_device
from sparse_rnn.data.base import Data
from sparse_rnn.inference.load import last_weights, load_best, load_data, read_run, reraise_damaged
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.training.assembly import make_task

BATCH_OF = {"train": "batch", "valid": "valid_batch", "test": "test_batch"}  # which key of `training` sets it


def evaluate_folder(
    folder: RunFolder, split: str, weights: str, *, batch: int | None, device: str, threads: int | None
) -> tuple[dict[str, float], str]:
    """Loss and metric of a run's split, and which weights they are of; raises ConfigError.

    batch: sequences side by side, None: as in training. threads: those of torch, None: as many as it chooses.
    """
    record, run = read_run(folder)
    if threads is not None:
        torch.set_num_threads(threads)
    if batch is not None:
        setattr(run.training, BATCH_OF[split], batch)
    data, made = load_data(folder, record, run), make_device(device)
    if made.type == "cpu" and run.precision == "tf32":
        run.precision = "fp32"  # which a CPU has instead
    set_up_device(made, run.precision, deterministic=run.deterministic)
    with reraise_damaged():
        return evaluate_run(run, data, folder, split, weights, made)


def evaluate_run(
    run: Run, data: Data, folder: RunFolder, split: str, weights: str, device: torch.device
) -> tuple[dict[str, float], str]:
    """Loss and metric of a split, and which weights they are of. Raises ConfigError, DamagedFile."""
    if weights != "best":
        with last_weights(run, data, folder, weights, device) as (trainer, origin):
            return trainer.task.evaluate(split), origin
    model, _, origin = load_best(run, data.sizes, folder)
    model.to(device)
    return make_task(run, data, model, device).evaluate(split), origin

"""A trained run, evaluated."""

import torch

from sparse_rnn.config.schema import Run
from sparse_rnn.data.base import Data
from sparse_rnn.inference.load import last_weights, load_best
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.training.assembly import make_task


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

"""The weights of a run, loaded and evaluated."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from sparse_rnn.build import make_task, make_topology
from sparse_rnn.checkpoint import load_weights
from sparse_rnn.config import Run
from sparse_rnn.data.datasets import Data
from sparse_rnn.registry import ConfigError
from sparse_rnn.run_folder import RunFolder
from sparse_rnn.sparsity.topology import SparseTopology
from sparse_rnn.trainer import Trainer


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


def load_best(run: Run, sizes: Sequence[int], folder: RunFolder) -> tuple[nn.Module, SparseTopology, str]:
    """Model and topology of the best validation, and which weights they are; raises ConfigError, DamagedFile."""
    if not folder.best.exists():
        raise ConfigError(f"{folder.path} has no best weights (checkpoint.keep=none, or no epoch is over).")
    model = run.model.build(*sizes)
    topology = make_topology(run, model)
    origin = load_weights(folder.best, model, topology)
    return model, topology, f"best, {origin['weights']}, epoch {origin['epoch']}"


@contextmanager
def last_weights(
    run: Run, data: Data, folder: RunFolder, weights: str, device: torch.device
) -> Iterator[tuple[Trainer, str]]:
    """A trainer at the last checkpoint with its raw or averaged weights, and which they are; raises ConfigError."""
    if not folder.checkpoint.exists():
        raise ConfigError(f"{folder.path} has no checkpoint; weights={weights} needs an unfinished run or keep=last.")
    trainer = Trainer(run, data, folder, device, read_only=True)
    if weights == "raw":
        yield trainer, f"raw, step {trainer.state.step}"
        return
    with trainer.evaluated_weights() as averaged:
        if not averaged:
            raise ConfigError(f"{folder.path} has not begun averaging; use weights=raw.")
        yield trainer, f"averaged, step {trainer.state.step}"

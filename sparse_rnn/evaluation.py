"""The weights of a run, loaded and evaluated."""

from collections.abc import Mapping, Sequence

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
        return _evaluate_last(run, data, folder, split, weights, device)
    model, _, origin = load_best(run, data.sizes, folder)
    model.to(device)
    task = make_task(run, data, model, device)
    return task.evaluate(split), f"best, {origin['weights']}, epoch {origin['epoch']}"


def load_best(run: Run, sizes: Sequence[int], folder: RunFolder) -> tuple[nn.Module, SparseTopology, Mapping[str, str]]:
    """Model and topology of the best validation, and which weights they are; raises ConfigError, DamagedFile."""
    if not folder.best.exists():
        raise ConfigError(f"{folder.path} has no best weights (checkpoint.keep=none, or no epoch is over).")
    model = run.model.build(*sizes)
    topology = make_topology(run, model)
    return model, topology, load_weights(folder.best, model, topology)


def _evaluate_last(
    run: Run, data: Data, folder: RunFolder, split: str, weights: str, device: torch.device
) -> tuple[dict[str, float], str]:
    if not folder.checkpoint.exists():
        raise ConfigError(f"{folder.path} has no checkpoint; weights={weights} needs an unfinished run or keep=last.")
    trainer = Trainer(run, data, folder, device, read_only=True)
    if weights == "raw":
        return trainer.task.evaluate(split), f"raw, step {trainer.state.step}"
    with trainer.evaluated_weights() as averaged:
        if not averaged:
            raise ConfigError(f"{folder.path} has not begun averaging; use weights=raw.")
        return trainer.task.evaluate(split), f"averaged, step {trainer.state.step}"

"""The demo's run: trained, then measured and drawn."""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id
from sparse_rnn.config.schema import Run
from sparse_rnn.inference.load import load_best, read_run, reraise_damaged
from sparse_rnn.runs.folder import RunFolder, runs_root
from sparse_rnn.runs.rows import read_rows
from sparse_rnn.training.session import train
from sparse_rnn.training.trainer import Trainer


@dataclass(frozen=True)
class Shown:
    """What a trained sparse network reached: validation perplexity before and after, sparsity, density by gate."""

    untrained: float
    trained: float
    sparsity_asked: float
    sparsity: float
    densities: dict[str, float]
    picture: Path


def train_and_measure(overrides: Sequence[str]) -> Shown:
    """Train the run of these Hydra overrides (or resume it), measure its best weights and draw them into its folder."""
    run = compose_run(overrides)
    untrained = _untrained_perplexity(run)
    train(run, list(overrides))
    folder = RunFolder(runs_root() / run_id(run))
    record, _ = read_run(folder)
    densities = _best_densities(run, folder, record["sizes"])
    picture = folder.path / "demo.png"
    with reraise_damaged():
        rows = read_rows(folder.metrics)
    epochs = [row for row in rows if "valid/loss" in row]
    _draw(picture, epochs, densities, untrained, 1 - run.sparsifier.sparsity)
    trained = record["results"]["valid/perplexity"]
    return Shown(untrained, trained, run.sparsifier.sparsity, record["sparsity"], densities, picture)


def _untrained_perplexity(run: Run) -> float:
    """Validation perplexity of the sparse network before its first step."""
    with tempfile.TemporaryDirectory() as empty:
        trainer = Trainer(run, run.dataset.load(), RunFolder(Path(empty)), torch.device("cpu"), read_only=True)
        return trainer.task.evaluate("valid")["perplexity"]


def _best_densities(run: Run, folder: RunFolder, sizes: Sequence[int]) -> dict[str, float]:
    """Density of every gate of the recurrent weights, in the weights of the best validation."""
    _, topology, _ = load_best(run, sizes, folder)
    return {name: value for name, value in topology.density(by="gate").items() if not name.endswith("/all")}


def _draw(
    path: Path, epochs: Sequence[Mapping[str, Any]], densities: Mapping[str, float], untrained: float, asked: float
) -> None:
    """A PNG of the perplexity by epoch and of the density of every gate."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")  # without pyplot, which may look for a display
    left, right = figure.subplots(1, 2)
    left.plot([0] + [row["epoch"] for row in epochs], [untrained] + [row["valid/perplexity"] for row in epochs], "o-")
    left.set(yscale="log", xlabel="epoch", ylabel="validation perplexity", title="Perplexity")
    names = list(densities)
    right.barh(names[::-1], [densities[name] for name in names[::-1]], color="#0072b2")
    right.axvline(asked, color="black", linestyle="--", label="asked of the whole network")
    right.set(xlabel="density", xlim=(0, 1), title="Density of each gate")
    right.tick_params(axis="y", labelsize=8)
    right.legend()
    figure.savefig(path, dpi=120)

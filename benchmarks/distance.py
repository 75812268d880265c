"""Topological distance of a pair of networks at the paper's size, two layers of 1,500 units, from snapshots on disk."""

import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from benchmarks.row import Row, median_seconds
from results.figures.distance import distances
from results.figures.matching import Matching
from results.figures.snapshots import read
from sparse_rnn.config.schema import SnapshotsConfig

UNITS, ROWS, DENSITY = 1500, 6000, 0.33
NAMES = [f"lstm.weight_{kind}_l{layer}" for layer in (0, 1) for kind in ("ih", "hh")]
BAR = 60  # seconds
ROUNDS = 3


def rows() -> list[Row]:
    """Seconds with semi-matching, and with assignment."""
    with tempfile.TemporaryDirectory() as folder:
        for epoch in (1, 2):
            _write_snapshot(Path(folder), epoch)
        return [_row(Path(folder), "semi"), _row(Path(folder), "assignment")]


def _row(folder: Path, matching: Matching) -> Row:
    seconds = median_seconds(lambda: distances(read(folder, 1), read(folder, 2), matching), ROUNDS)
    return Row(f"topological distance of a pair, {matching}", seconds, BAR, None, "seconds")


def _write_snapshot(folder: Path, epoch: int) -> None:
    """Random masks, and states that follow a few directions as those of a network do."""
    draw = np.random.default_rng(epoch)
    tokens = SnapshotsConfig().tokens
    tensors = {f"mask/{name}": np.packbits(draw.random(ROWS * UNITS, np.float32) < DENSITY) for name in NAMES}
    for layer in (0, 1):
        directions = np.random.default_rng(layer).standard_normal((tokens, 50)) @ draw.standard_normal((50, UNITS))
        states = np.tanh(directions / 7 + draw.standard_normal((tokens, UNITS)))
        tensors[f"hidden/{layer}"] = states.astype(np.float16)
    shapes = {f"shape/{name}": f"{ROWS}x{UNITS}" for name in NAMES}
    save_file(tensors, folder / f"epoch{epoch:04d}.safetensors", shapes)

"""A run as an event file of TensorBoard's."""

import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d
from torch.utils.tensorboard import SummaryWriter, summary

from sparse_rnn.config.identity import identity
from sparse_rnn.config.stored import flat
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.runs.rows import gate_densities
from sparse_rnn.training.loggers.base import Logger, Row
from sparse_rnn.training.snapshots import read_masks

BINS = [each / 50 for each in range(51)]  # of densities
LARGEST_SIDE = 512  # of a picture, in pixels
VALID, BEST = "valid/", "best/"


class TensorBoard(Logger):
    """One event file in the folder of a run, with exactly the rows that metrics.jsonl has.

    before: the rows of earlier processes. They are written anew, with the times of the event file that is replaced, so
    that no row is there twice or missing, however an earlier process has ended.
    """

    def __init__(self, folder: RunFolder, config: Mapping[str, Any], before: Iterable[Row]) -> None:
        place = folder.path / "tensorboard"
        old = sorted(place.glob("events.out.tfevents.*"))
        now, times = time.time(), {step: when for path in old for step, when in _times(path)}
        self._snapshots = folder.snapshots
        self._settings = {key: _shown(value) for key, value in flat(identity(config))}
        self._ends: list[Any] = []  # the last of the three parts of the hyperparameters, once the others are written
        self._writer: Any = SummaryWriter(  # whose types torch declares in part
            str(place), purge_step=0 if old else None
        )
        for row in before:
            self._write(row, times.get(int(row["step"] or 0), now))
        self._writer.flush()
        for path in old:
            path.unlink()

    def row(self, row: Row) -> None:
        """Write a row, to the disk."""
        self._write(row, time.time())
        self._writer.flush()

    def finish(self, exit_code: int) -> None:
        """Close the file."""
        self._writer.close()

    def _write(self, row: Row, when: float) -> None:
        """A row as scalars; that of an epoch also as histograms of densities and, with snapshots, pictures of masks."""
        step = int(row["step"] or 0)
        for key, value in row.items():
            if key != "step" and isinstance(value, int | float):
                self._writer.add_scalar(key, value, step, when)
        if f"{VALID}loss" in row:
            self._write_hyperparameters(row)
            for gate, densities in densities_of(row).items():
                self._writer.add_histogram(f"density/{gate}", torch.tensor(densities), step, BINS, when)
            for weight, mask in read_masks(self._snapshots, int(row["epoch"] or 0)):
                self._writer.add_image(f"mask/{weight}", picture(mask), step, when, dataformats="HW")
        if f"{BEST}{VALID}loss" in row:
            for part in self._ends:
                self._writer.file_writer.add_summary(part)

    def _write_hyperparameters(self, row: Row) -> None:
        """With the first epoch, which shows what the run is judged by: settings, and the names of the results."""
        if self._ends:
            return
        names = [key.removeprefix(VALID) for key in row if key.startswith(VALID)]
        tags = [f"{prefix}{name}" for name in names for prefix in (VALID, f"{BEST}{VALID}", f"{BEST}test/")]
        hparams: Any = summary.hparams
        *begin, end = hparams(self._settings, dict.fromkeys(tags, 0.0))
        for part in begin:
            self._writer.file_writer.add_summary(part)
        self._ends = [end]


def densities_of(row: Row) -> dict[str, list[float]]:
    """The density of each gate, of all weights that have it, by the gate's name; as `gates` those of all gates."""
    found = gate_densities(row)
    return {**found, "gates": [density for each in found.values() for density in each]} if found else {}


def picture(mask: Tensor) -> Tensor:
    """A mask [rows, columns] as a picture of its density, float in [0, 1], of at most LARGEST_SIDE pixels a side."""
    rows, columns = mask.shape
    return adaptive_avg_pool2d(mask.float()[None], (min(rows, LARGEST_SIDE), min(columns, LARGEST_SIDE)))[0]


def _shown(value: Any) -> Any:
    """A setting as TensorBoard takes it."""
    return value if isinstance(value, bool | int | float | str) else str(value)


def _times(path: Path) -> Iterator[tuple[int, float]]:
    """Step and time of every event in a file."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    return ((event.step, event.wall_time) for event in EventFileLoader(str(path)).Load())

"""The folder of a run: its files, and the record in it. Imports nothing heavy."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Required, TypedDict

from sparse_rnn.core.command_line import warn
from sparse_rnn.core.errors import ConfigError, DamagedFile
from sparse_rnn.core.files import replace
from sparse_rnn.core.metrics import METRICS
from sparse_rnn.core.reading import load_object
from sparse_rnn.core.shapes import is_number

SCHEMA = 2  # of the record, and of the keys that W&B gets besides the rows
PROVENANCE = ("schema", "data_sha256", "sizes", "threads", "started", "environment", "device")


class Record(TypedDict, total=False):
    """The shape of a record, as far as it is the same in all versions; see `config.stored` for its configuration."""

    config: Required[dict[str, Any]]
    status: Required[str]
    data_sha256: Required[str]
    run_id: str
    overrides: list[str]
    written: float
    error: str
    results: dict[str, float | str | bool | None]
    environment: dict[str, Any]
    sizes: list[int]
    threads: int
    device: str
    backend: str
    started: float
    finished: float
    seconds: float
    tokens_per_second: float | None
    active_parameters: int
    sparsity: float


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run and the names of its files."""

    path: Path

    @property
    def record(self) -> Path:
        """Configuration, status, provenance and results of the run, as JSON."""
        return self.path / "record.json"

    @property
    def metrics(self) -> Path:
        """The logged rows, one JSON object per line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """What a stopped run resumes from."""
        return self.path / "checkpoint.pt"

    @property
    def previous_checkpoint(self) -> Path:
        """The checkpoint before that one, for the case that it is damaged."""
        return self.path / "checkpoint.previous.pt"

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is something to resume from."""
        return self.checkpoint.exists() or self.previous_checkpoint.exists()

    @property
    def best(self) -> Path:
        """The weights of the best validation, as far as the checkpoint knows of it."""
        return self.path / "best.safetensors"

    @property
    def next_best(self) -> Path:
        """The weights of a later, better validation; they become `best` together with the next checkpoint."""
        return self.path / "best.next.safetensors"

    @property
    def previous_best(self) -> Path:
        """The best weights that the previous checkpoint knows of, if they are others."""
        return self.path / "best.previous.safetensors"

    @property
    def rewind(self) -> Path:
        """The weights of an early epoch, with which later rounds of pruning begin."""
        return self.path / "rewind.safetensors"

    @property
    def vocabulary(self) -> Path:
        """The words that the run's model knows, by number, and the SHA-256 of the data, as JSON."""
        return self.path / "vocabulary.json"

    @property
    def lock(self) -> Path:
        """Held by the process that trains the run."""
        return self.path / "run.lock"

    @property
    def snapshots(self) -> Path:
        """Masks and hidden states of every epoch, if snapshots are enabled."""
        return self.path / "snapshots"


def runs_root() -> Path:
    """The folder of all runs: the variable SPARSE_RNN_RUNS, or the folder `runs`. Raises ConfigError."""
    root = os.path.expanduser(os.environ.get("SPARSE_RNN_RUNS", "runs"))
    if any("\udc80" <= sign <= "\udcff" for sign in root):
        raise ConfigError(f"The name of the runs folder {root!r} is not UTF-8: choose another with SPARSE_RNN_RUNS.")
    return Path(root)


def refuse_for_slurm(root: Path) -> None:
    """Raise ConfigError for a folder of runs that SLURM would not find again in the names of logs."""
    if found := re.search(r"[%\\\n]", str(root.absolute())):
        raise ConfigError(
            f"The runs folder {root} has {found.group()!r} in its path, which SLURM replaces in the names of logs: "
            "choose another with SPARSE_RNN_RUNS."
        )


def load_record(folder: RunFolder) -> dict[str, Any] | None:
    """The record, None if there is none; raises DamagedFile with a sentence that names it if it cannot be used."""
    return load_object(folder.record, Record, "the record of a run")


def read_record(folder: RunFolder) -> dict[str, Any] | None:
    """The record, None if there is none or, with a warning, if it cannot be used."""
    try:
        return load_record(folder)
    except DamagedFile as error:
        warn(f"{str(error).removesuffix('.')}: it counts as none.")
        return None


def backend_so_far(folder: RunFolder) -> str | None:
    """What has computed the run whose checkpoint is there: masked or sparse; None if nobody knows."""
    if not folder.has_checkpoint:
        return None
    return (read_record(folder) or {}).get("backend")


def has_results(record: Mapping[str, Any]) -> bool:
    """Whether a record tells what its run came to, and not only that it is finished."""
    results = record.get("results", {})
    return all(any(is_number(results.get(f"{split}/{each.name}")) for each in METRICS) for split in ("valid", "test"))


def keep_next_best(folder: RunFolder) -> None:
    """After a checkpoint: let the weights of a later best validation, if there are any, take their place.

    The earlier ones stay as those of the previous checkpoint, as long as that knows of no later ones. Whatever a kill
    leaves in between, a checkpoint finds its weights in one of the three files by their checksum.
    """
    if not folder.next_best.exists():
        folder.previous_best.unlink(missing_ok=True)
        return
    if folder.best.exists():
        replace(folder.best, folder.previous_best)
    replace(folder.next_best, folder.best)


def metrics_are_intact(record: Mapping[str, Any], metrics: bytes) -> bool:
    """Whether the content of metrics.jsonl is what the record of a finished run says; older records say nothing."""
    expected = record.get("metrics_sha256")
    return record["status"] != "finished" or expected in (None, hashlib.sha256(metrics).hexdigest())


def keep_finished(folder: RunFolder, keep: str) -> None:
    """Remove from a finished run what checkpoint.keep does not keep.

    best: the best weights stay; last: also the last checkpoint; none: neither.
    """
    folder.previous_checkpoint.unlink(missing_ok=True)
    folder.previous_best.unlink(missing_ok=True)
    if keep != "last":
        folder.checkpoint.unlink(missing_ok=True)
    if keep == "none":
        folder.best.unlink(missing_ok=True)

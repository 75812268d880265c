"""The folder of a run: its files, and the record in it. Imports nothing heavy."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.files import replace

SCHEMA = 2  # of the record, and of the keys that W&B gets besides the rows
PROVENANCE = ("schema", "data_sha256", "sizes", "threads", "started", "environment", "device")


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
    def best(self) -> Path:
        """The weights of the best validation, as far as the checkpoint knows of it."""
        return self.path / "best.safetensors"

    @property
    def next_best(self) -> Path:
        """The weights of a later, better validation; they become `best` together with the next checkpoint."""
        return self.path / "best.next.safetensors"

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


def read_record(folder: RunFolder) -> dict[str, Any] | None:
    """The record, or None if there is none or it cannot be read."""
    try:
        record = json.loads(folder.record.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return record if isinstance(record, dict) and record.keys() >= {"config", "status", "data_sha256"} else None


def keep_next_best(folder: RunFolder) -> None:
    """Let the weights of the newest best validation take the place of the earlier ones, if there are any."""
    if folder.next_best.exists():
        replace(folder.next_best, folder.best)


def keep_finished(folder: RunFolder, keep: str) -> None:
    """Remove from a finished run what checkpoint.keep does not keep.

    best: the best weights stay; last: also the checkpoint; none: neither.
    """
    if keep != "last":
        folder.checkpoint.unlink(missing_ok=True)
    if keep == "none":
        folder.best.unlink(missing_ok=True)

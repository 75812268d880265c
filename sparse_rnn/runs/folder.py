"""The folder of a run: the names of its files, and its record as it stands there. Imports nothing heavy."""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

SCHEMA = 2  # of the record and of what W&B is told beside the rows
PROVENANCE = ("schema", "data_sha256", "sizes", "threads", "started", "environment", "device")


@dataclass(frozen=True)
class RunFolder:
    """The folder of a run and the names of its files."""

    path: Path

    @property
    def record(self) -> Path:
        """The receipt."""
        return self.path / "record.json"

    @property
    def metrics(self) -> Path:
        """One JSON object a line."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint(self) -> Path:
        """What a stopped run resumes from."""
        return self.path / "checkpoint.pt"

    @property
    def best(self) -> Path:
        """The weights of the best validation."""
        return self.path / "best.safetensors"

    @property
    def lock(self) -> Path:
        """Held by the process that works on the run."""
        return self.path / "run.lock"

    @property
    def snapshots(self) -> Path:
        """Masks and hidden states of every epoch, if asked for."""
        return self.path / "snapshots"


def runs_root() -> Path:
    """Where runs live: the variable SPARSE_RNN_RUNS, or the folder `runs`."""
    return Path(os.environ.get("SPARSE_RNN_RUNS", "runs"))


def read_record(folder: RunFolder) -> dict[str, Any] | None:
    """The record, or None if there is none or it cannot be read."""
    try:
        record = json.loads(folder.record.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return record if isinstance(record, dict) and record.keys() >= {"config", "status", "data_sha256"} else None

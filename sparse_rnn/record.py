"""The receipt of a run: record.json in its folder."""

import hashlib
import json
import platform
import socket
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparse_rnn.checkpoint import write_text
from sparse_rnn.config import as_dict, identity, run_from_dict
from sparse_rnn.sparsity.topology import SparseTopology

NOT_IN_DIGEST = ("throughput/", "train/loss_recent")
SCHEMA = 1


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


def read_record(folder: RunFolder) -> dict[str, Any] | None:
    """The record, or None if there is none or it cannot be read."""
    try:
        record = json.loads(folder.record.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return record if isinstance(record, dict) and record.keys() >= {"config", "status", "data_sha256"} else None


def write_record(folder: RunFolder, record: Mapping[str, Any]) -> None:
    """Write the record atomically."""
    write_text(folder.record, json.dumps(record, indent=1) + "\n")


def differences(recorded: Mapping[str, Any], config: Mapping[str, Any]) -> list[str]:
    """Keys whose values differ between two configurations, as far as they decide what a run computes.

    An option that is younger than the recorded configuration counts there as its default. Raises ConfigError if the
    recorded one cannot be read.
    """
    old, new = dict(_flat(identity(as_dict(run_from_dict(recorded))))), dict(_flat(identity(config)))
    return sorted(key for key in old.keys() | new.keys() if old.get(key, ...) != new.get(key, ...))


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def environment() -> dict[str, Any]:
    """Where a run takes place: versions, host, commit."""
    packages = {name: version(name) for name in ("torch", "numpy", "hydra-core", "wandb")}
    return {"host": socket.gethostname(), "python": platform.python_version(), "packages": packages, **_commit()}


def _commit() -> dict[str, Any]:
    here = Path(__file__).parent
    try:
        head = _git(here, "rev-parse", "HEAD")
        return {"commit": head, "modified": bool(_git(here, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "modified": None}


def _git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True, timeout=10)
    return done.stdout.strip()


def digest(config: Mapping[str, Any], metrics: Path, model: nn.Module, topology: SparseTopology) -> str:
    """SHA-256 of all that a run computed: configuration, metrics, topology, weights; not times or hosts."""
    total = hashlib.sha256(json.dumps(identity(config), sort_keys=True).encode())
    with metrics.open(encoding="utf-8") as rows:
        for line in rows:
            row = {k: v for k, v in json.loads(line).items() if not k.startswith(NOT_IN_DIGEST)}
            if row.keys() - {"step", "epoch"}:
                total.update(json.dumps(row, sort_keys=True).encode())
    for weight in topology:
        total.update(weight.name.encode() + weight.mask.cpu().numpy().tobytes())
    for name, parameter in model.named_parameters():
        total.update(name.encode() + parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()

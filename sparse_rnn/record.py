"""The receipt of a run: record.json in its folder."""

import hashlib
import json
import platform
import socket
import subprocess
from collections.abc import Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparse_rnn.checkpoint import write_text
from sparse_rnn.config import as_dict, run_from_dict
from sparse_rnn.identity import identity
from sparse_rnn.run_folder import RunFolder
from sparse_rnn.sparsity.topology import SparseTopology

NOT_IN_DIGEST = ("throughput/", "clock/", "train/loss_recent")


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


def environment(device: torch.device) -> dict[str, Any]:
    """Where a run takes place: versions, host, device, commit."""
    packages = {name: version(name) for name in ("torch", "numpy", "hydra-core", "wandb")}
    where = {"host": socket.gethostname(), "device_name": device_name(device)}
    return {**where, "python": platform.python_version(), "packages": packages, **_commit()}


def device_name(device: torch.device) -> str:
    """What the maker calls a GPU, or this machine's processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


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
    sparse = {weight.name: weight for weight in topology}
    for weight in topology:
        total.update(weight.name.encode() + weight.mask.cpu().numpy().tobytes())
    for name, parameter in model.named_parameters():
        values = sparse[name].values if name in sparse else parameter.detach()
        total.update(name.encode() + values.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return total.hexdigest()

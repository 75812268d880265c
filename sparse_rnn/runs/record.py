"""The record of a run, record.json in its folder, and the digest of what it computed."""

import hashlib
import json
import os
import platform
import socket
import subprocess
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sparse_rnn import __version__
from sparse_rnn.config.identity import identity
from sparse_rnn.core.conf import config_dir
from sparse_rnn.core.device import device_facts
from sparse_rnn.core.files import write_text
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.sparsity.topology import SparseTopology

# The training loss within an epoch is left out too: how often it is logged, logger.every, is no part of a run.
NOT_IN_DIGEST = ("throughput/", "clock/", "train/loss_recent")


def write_record(folder: RunFolder, record: Mapping[str, Any]) -> None:
    """Write the record atomically, with the time at which the run was last worked on."""
    write_text(folder.record, json.dumps({**record, "written": time.time()}, indent=1) + "\n")


def environment(device: torch.device) -> dict[str, Any]:
    """Where a run is trained: versions of packages, host, device and its drivers, commit of the checkout."""
    packages = {name: version(name) for name in ("torch", "numpy", "hydra-core", "wandb")}
    packages |= {"sparse-rnn": __version__} if _is_installed() else {}
    where = {"host": socket.gethostname(), **device_facts(device)}
    return {**where, "python": platform.python_version(), "packages": packages, **_commit()}


def _is_installed() -> bool:
    """Whether this is an installed package, which has its configuration inside; git would find what surrounds it."""
    return config_dir().parent == Path(__file__).parents[1]


def _commit() -> dict[str, Any]:
    """The commit, and whether tracked files were modified; None unless this code lies in a checkout of its own."""
    root = config_dir().parent
    try:
        if _is_installed() or Path(_git(root, "rev-parse", "--show-toplevel")) != root.resolve():
            return {"commit": None, "modified": None}
        _git(root, "ls-files", "--error-unmatch", str(Path(__file__).relative_to(root)), "pyproject.toml")
        head = _git(root, "rev-parse", "HEAD")
        return {"commit": head, "modified": bool(_git(root, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return {"commit": None, "modified": None}


def _git(folder: Path, *arguments: str) -> str:
    # GIT_DIR and the like, which hooks set, name another repository.
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", *arguments]
    done = subprocess.run(command, cwd=folder, env=own, capture_output=True, check=True, timeout=10)
    return os.fsdecode(done.stdout).rstrip("\n")


def digest(config: Mapping[str, Any], metrics: Path, model: nn.Module, topology: SparseTopology) -> str:
    """SHA-256 of everything that a run computed: configuration, metrics, topology, weights; not times or hosts.

    Two runs with the same digest had the same numbers, bit for bit. A weight counts with all its entries, zero where
    inactive, so the digest does not depend on how the weight is stored.
    """
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

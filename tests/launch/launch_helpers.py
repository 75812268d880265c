"""Runs that launchers send in tests: small ones on the embedded corpus."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id

SMALL = ["dataset=pydoc", "budget=smoke", "logger=files", "device=cpu", "threads=1"]
LONG = [*SMALL, "training.epochs=60"]  # a second of training, with a checkpoint after every epoch


@cache
def id_of(*overrides: str) -> str:
    """The id of the run of these overrides."""
    return run_id(compose_run(overrides))


def record_of(folder: Path) -> dict[str, Any]:
    """The record; empty if there is none yet."""
    try:
        record: dict[str, Any] = json.loads((folder / "record.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return record


def rows_of(folder: Path) -> int:
    """How many rows of metrics there are."""
    path = folder / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def wait_until(condition: Callable[[], Any], seconds: float = 90.0) -> Any:
    """The first true value of `condition`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.01)
    return value


def start_job(folder: Path, overrides: Sequence[str]) -> "subprocess.Popen[bytes]":
    """`python -m launch.job` for a run."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-m", "launch.job", str(folder), *overrides], env=environment)


def launch(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """`python -m launch` to its end."""
    command = [sys.executable, "-m", "launch", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL)

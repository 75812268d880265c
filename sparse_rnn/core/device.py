"""The device that a run computes on, and its random state."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from sparse_rnn.core.errors import ConfigError


def make_device(name: str) -> torch.device:
    """The device of this name; `auto` is CUDA where there is one, else the CPU. Raises ConfigError if it is missing."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ConfigError(f"device={name} is not available here; use device=auto.") from None
    return device


def device_name(device: torch.device) -> str:
    """The product name of a GPU, or of this machine's processor."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def rng_state() -> dict[str, Any]:
    """The states of torch's global generators: `cpu`, and one per GPU in `cuda`."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_rng(state: Mapping[str, Any]) -> None:
    """Restore what `rng_state` returned; states of GPUs that this machine does not have are dropped."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])

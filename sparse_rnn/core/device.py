"""The device that a run computes on: its choice, precision, determinism, random state, and what is recorded of it."""

import os
import platform
import re
import subprocess
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

from sparse_rnn.core.bounds import check_device
from sparse_rnn.core.errors import ConfigError, DeviceLost, RunFailed

PRECISIONS = ("fp32", "tf32", "bf16")
# Before the first call of cuBLAS: without a workspace of a fixed size, its sums depend on what else the GPU does.
CUBLAS_WORKSPACE = ("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
OUT_OF_MEMORY = "Out of memory: lower training.batch or the size of the model."
NO_MEMORY = ("out of memory", "STATUS_ALLOC_FAILED", "HOST_ALLOCATION_FAILED", "can't allocate memory")
LOST = (
    "uncorrectable ECC",
    "fallen off the bus",
    "unspecified launch failure",
    "hardware stack error",
    "CUDA-capable device is detected",
    "CUDA-capable device(s) is/are busy or unavailable",
    "CUDA error: unknown error",
    "STATUS_NOT_INITIALIZED",
    "system not yet initialized",
)


def make_device(name: str) -> torch.device:
    """The device of this name, `auto`, `cpu`, `cuda` or `cuda:N`; `auto` is CUDA where there is one, else the CPU.

    A GPU becomes torch's current one, after a first computation on it. Raises ConfigError if that fails, or DeviceLost
    if it has broken down.
    """
    check_device(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    device = torch.device(name)
    if device.type != "cuda":
        return device
    if not torch.cuda.is_available():
        raise ConfigError(f"device={name} is not available: torch finds no GPU that it can use here; use device=cpu.")
    device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
    if device.index >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        there = f"the GPUs are cuda:0 to cuda:{last}" if last else "the only GPU is cuda:0"
        raise ConfigError(f"device={name} does not exist here: {there}.")
    try:
        torch.cuda.set_device(device)
        torch.ones(1, device=device).add_(1).item()
    except RuntimeError as error:
        kind = DeviceLost if isinstance(device_failure(error), DeviceLost) else ConfigError
        raise kind(f"device={name} does not compute ({_reason(error)}): choose another, or device=cpu.") from None
    return device


def set_up_device(device: torch.device, precision: str, *, deterministic: bool) -> None:
    """Set torch's switches for a run; they hold for the process. Raises ConfigError for what the device cannot do.

    precision: `fp32` switches TF32 off everywhere, `tf32` on for matrix products and cuDNN alike (torch's own default
    is TF32 inside cuDNN's LSTMs alone), `bf16` is autocast over fp32 weights.
    deterministic: only algorithms that repeat their results bit for bit. A CPU needs no such switch.
    """
    if precision == "tf32" and device.type != "cuda":
        raise ConfigError(f"precision=tf32 needs a GPU, and device={device}; use precision=fp32.")
    if device.type != "cuda":
        return
    products = "tf32" if precision == "tf32" else "ieee"
    cudnn: Any = torch.backends.cudnn  # torch declares no types for these switches
    for switches in (torch.backends.cuda.matmul, cudnn, cudnn.conv, cudnn.rnn):
        switches.fp32_precision = products
    if deterministic:
        os.environ.setdefault(*CUBLAS_WORKSPACE)
    settings: Any = torch.utils.deterministic
    settings.fill_uninitialized_memory = False  # a help in debugging that costs a pass over every new tensor
    # A warning, not an error, for an operation without a deterministic form: torch counts cumsum among them, although
    # along the last dimension of a matrix it always adds in the same order.
    torch.use_deterministic_algorithms(deterministic, warn_only=True)
    cudnn.deterministic, cudnn.benchmark = deterministic, False


def autocast(device: torch.device, precision: str) -> AbstractContextManager[Any]:
    """While entered, products are computed in bf16 if that is the precision."""
    return torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext()


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


def device_facts(device: torch.device) -> dict[str, Any]:
    """What a record says of the device: its name and, for a GPU, the versions of CUDA, cuDNN and the driver."""
    facts: dict[str, Any] = {"device_name": device_name(device)}
    if device.type == "cuda":
        cudnn_version = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        facts |= {"cuda": torch.version.cuda, "cudnn": cudnn_version, "driver": _driver()}
    return facts


def _driver() -> str | None:
    """The version of NVIDIA's kernel driver, as Linux tells it or, where a sandbox hides that file, nvidia-smi."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        try:
            text = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout
        except (OSError, subprocess.SubprocessError):
            return None
    found = re.search(r"\b\d+\.\d+(?:\.\d+)?\b", text)
    return found.group() if found else None


def rng_state(device: torch.device) -> dict[str, Any]:
    """The states of torch's global generators: `cpu`, and in the list `cuda` that of `device`, if it is a GPU."""
    cuda = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_rng(state: Mapping[str, Any], device: torch.device) -> None:
    """Restore what `rng_state` returned; the state of a GPU is left out on a CPU, and the other way round."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"][0], device)


def device_failure(error: BaseException) -> RunFailed | None:
    """The sentence for a computation that ran out of memory, or whose GPU stopped working; None for other errors."""
    text = str(error) if isinstance(error, RuntimeError) else ""
    if isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in text for words in NO_MEMORY):
        return RunFailed(OUT_OF_MEMORY)
    if any(words in text for words in LOST):
        return DeviceLost(f"The GPU was lost ({_reason(error)}): the same command resumes from the last checkpoint.")
    return None


def _reason(error: BaseException) -> str:
    """The first line of an error of torch, which explains more in further ones."""
    return str(error).partition("\n")[0].rstrip(".")

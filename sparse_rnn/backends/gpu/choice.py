"""Whether a run on a GPU uses Triton kernels and captured steps."""

from importlib.util import find_spec

import torch

from sparse_rnn.core.errors import ConfigError

# `auto` means off until `make test-cuda` has passed on a GPU.
PROVEN = False


def choose_fused(asked: str, device: torch.device) -> bool:
    """Whether Triton kernels compute cells, loss and optimizer; `asked`: training.fused. Raises ConfigError."""
    if asked == "on":
        _refuse_without_gpu("fused", device)
        if find_spec("triton") is None:
            raise ConfigError("training.fused=on needs triton, which is not installed: use training.fused=off.")
    return asked == "on" or (asked == "auto" and PROVEN and device.type == "cuda" and find_spec("triton") is not None)


def choose_graph(asked: str, device: torch.device) -> bool:
    """Whether steps are captured in CUDA graphs and replayed; `asked`: training.graph. Raises ConfigError."""
    if asked == "on":
        _refuse_without_gpu("graph", device)
    return asked == "on" or (asked == "auto" and PROVEN and device.type == "cuda")


def _refuse_without_gpu(key: str, device: torch.device) -> None:
    if device.type != "cuda":
        raise ConfigError(f"training.{key}=on needs a GPU, and device={device}: use training.{key}=auto.")

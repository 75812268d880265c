"""The operators in C++, compiled on first use."""

from functools import cache
from typing import Any

import torch

from sparse_rnn.backends.cpu.compile import kernels


@cache
def operators() -> Any:
    """torch.ops.sparse_rnn, whose operators csrc/*.cpp define at their ends; raises KernelsUnavailable."""
    kernels()
    return torch.ops.sparse_rnn

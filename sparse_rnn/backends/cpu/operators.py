"""The compiled operators."""

from functools import cache
from typing import Any

import torch

from sparse_rnn.backends.cpu.compile import kernels


@cache
def operators() -> Any:
    """torch.ops.sparse_rnn (see csrc/), compiled on first use; raises KernelsUnavailable."""
    kernels()
    return torch.ops.sparse_rnn

"""The activation that keeps states positive, so that they have logarithms (Feng et al. 2024, appendix B)."""

import torch
from torch import Tensor
from torch.nn.functional import relu, softplus


def positive(x: Tensor) -> Tensor:
    """g(x): x + 0.5 for x >= 0, else sigmoid(x)."""
    return torch.where(x >= 0, x + 0.5, torch.sigmoid(x))


def log_positive(x: Tensor) -> Tensor:
    """log g(x)."""
    return torch.where(x >= 0, (relu(x) + 0.5).log(), -softplus(-x))  # relu: a branch not taken must stay finite

"""The normalisation of residual stacks."""

import torch
from torch import Tensor, nn

EPSILON = 1e-6


class RMSNorm(nn.Module):
    """x / sqrt(mean of x^2 + epsilon), times a scale for each feature (Zhang & Sennrich 2019).

    nn.RMSNorm computes the same, but torch's exporter to ONNX does not know it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width]."""
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPSILON) * self.weight

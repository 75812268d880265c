"""The short causal convolution in front of linear recurrences (Griffin, De et al. 2024; Mamba, Gu & Dao 2023)."""

from typing import cast

import torch
from torch import Tensor, nn

TAPS = 4  # steps that are read, as in both papers


class ShortConvolution(nn.Module):
    """y_t = b + sum_k w_k x_{t-k}, k < TAPS, for each of `width` channels on its own.

    The weight is a vector, as it mixes no channels: no method makes it sparse, and FLOPs leave it out like a bias.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.weight = nn.Parameter(torch.empty(TAPS * width))
        self.bias = nn.Parameter(torch.empty(width))
        nn.init.uniform_(self.weight, -(TAPS**-0.5), TAPS**-0.5)  # as nn.Conv1d starts
        nn.init.uniform_(self.bias, -(TAPS**-0.5), TAPS**-0.5)

    def forward(self, x: Tensor, before: Tensor) -> tuple[Tensor, Tensor]:
        """All y [T, B, width] and the last inputs, given x [T, B, width] and the ones before [TAPS - 1, B, width]."""
        read = torch.cat([before, x])
        products = (read[k : k + len(x)] * weight for k, weight in enumerate(self.weight.view(TAPS, self.width)))
        return cast(Tensor, sum(products, self.bias)), read[len(x) :]

"""The co-activation that is taken of a model, and the same by plain loops."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from sparse_rnn.sparsity.coactivation import Coactivation
from sparse_rnn.sparsity.topology import SparseTopology


def coactivation(model: nn.Module, use: Callable[[], object], **kept_dense: list[str]) -> dict[str, Tensor]:
    """What is taken after `use`."""
    seen = Coactivation(SparseTopology.of(model, **kept_dense))
    seen.watch()
    use()
    return seen.taken()


def loop(uses: list[tuple[Tensor, Tensor]]) -> Tensor:
    """The mean over tokens of y_i x_j, given pairs of x [inputs] and y [outputs]."""
    total = torch.zeros(len(uses[0][1]), len(uses[0][0]), dtype=uses[0][0].dtype)
    for x, y in uses:
        for i in range(len(y)):
            for j in range(len(x)):
                total[i, j] += y[i] * x[j]
    return total / len(uses)

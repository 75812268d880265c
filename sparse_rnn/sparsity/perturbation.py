"""What moves active weights besides the optimizer."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparse_rnn.core.random import generator
from sparse_rnn.sparsity.topology import SparseTopology, SparseWeight


class Perturbation:
    """A step of a random walk after every step of the optimizer (DeepR, Bellec et al. 2018, Eq. 3):

        w <- w + lr (noise nu - l1 sign(w)),  nu ~ N(0, 1)

    for active weights alone. lr is the optimizer's learning rate of the weight; the paper's temperature is T = lr
    noise^2 / 2. The noise depends on its key alone.
    """

    def __init__(self, noise: float, l1: float) -> None:
        self.noise, self.l1 = noise, l1

    @torch.no_grad()
    def __call__(self, topology: SparseTopology, optimizer: Optimizer, *key: object) -> None:
        """Move the active weights of a topology."""
        rates = {p: float(group.get("lr", 1.0)) for group in optimizer.param_groups for p in group["params"]}
        for weight in topology:
            values, rate = weight.parameter.data, rates[weight.parameter]
            if self.l1:
                values.sub_(values.sign(), alpha=rate * self.l1)
            if self.noise:
                values.add_(_noise(weight, *key), alpha=rate * self.noise)


def _noise(weight: SparseWeight, *key: object) -> Tensor:
    """Standard normal numbers for active entries and zeros for others, as the weight is stored."""
    # One number for each active entry, row by row, so that both storages move alike.
    numbers = torch.randn(weight.active, generator=generator(*key, "noise", weight.name), dtype=weight.parameter.dtype)
    dense = torch.zeros(weight.shape, dtype=weight.parameter.dtype, device=weight.parameter.device)
    dense[weight.mask] = numbers.to(dense.device)
    return weight.storage.stored(dense)

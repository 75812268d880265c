"""A toy in training with AveragedSGD."""

import torch
from storages import as_tested, set_gradient
from torch import Tensor, nn

from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.sparsity.topology import SparseTopology, SparseWeight

SHAPE = (2, 4)


class Toy:
    """A sparse weight and a bias on random gradients; `history` holds the values after every step."""

    def __init__(self, *, dense: bool = False, **settings) -> None:
        random = torch.Generator().manual_seed(2)
        self.gradients = torch.randn(100, 2, *SHAPE, generator=random, dtype=torch.float64)
        start = torch.randn(2, *SHAPE, generator=random, dtype=torch.float64)
        parameter, self.bias = nn.Parameter(start[0]), nn.Parameter(start[1, 0])
        mask = torch.tensor([[True, True, True, dense], [True, True, dense, dense]])
        self.sparse_weight = SparseWeight("w", parameter, mask, {"all": slice(0, 2)}, None)
        self.topology = SparseTopology([self.sparse_weight])
        self.topology.mask_weights()
        as_tested(self.sparse_weight)
        self.optimizer = AveragedSGD([parameter, self.bias], **({"lr": 0.5, "weight_decay": 1e-2} | settings))
        self.history: list[torch.Tensor] = []
        self.bias_history: list[torch.Tensor] = []

    @property
    def weight(self) -> Tensor:
        return self.sparse_weight.values.clone()

    def steps(self, count: int) -> None:
        for _ in range(count):
            step = len(self.history)
            set_gradient(self.sparse_weight, self.gradients[step, 0])
            self.bias.grad = self.gradients[step, 1, 0].clone()
            self.topology.mask_gradients()
            self.optimizer.step()
            self.history.append(self.weight)
            self.bias_history.append(self.bias.detach().clone())

    def replace(self, remove: list[int], grow: list[int]) -> None:
        """Remove and grow entries by flat index; an index in both is removed and regrown."""
        mask = self.sparse_weight.mask.clone().view(-1)
        restart = torch.zeros_like(mask)
        mask[remove], restart[remove] = False, True
        mask[grow], restart[grow] = True, True
        self.topology.replace("w", mask.view(SHAPE), self.optimizer, restart.view(SHAPE))

    def averages(self) -> tuple[torch.Tensor, torch.Tensor]:
        with self.optimizer.averaged():
            return self.weight, self.bias.detach().clone()

    def mean(self, entry: int, first: int) -> float:
        """Eq. 5 in plain words: the mean of an entry's values from step `first` (from 1) on."""
        values = [float(w.view(-1)[entry]) for w in self.history[first - 1 :]]
        return sum(values) / len(values)

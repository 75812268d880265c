"""Initial distributions: how many entries of each group start active."""

from collections.abc import Sequence
from typing import Protocol

from sparse_rnn.core.registry import register
from sparse_rnn.sparsity.groups import Group
from sparse_rnn.sparsity.selection import apportion


class InitialDistribution(Protocol):
    """Counts of active entries, one a group, whose sum is round(density * size) exactly."""

    def __call__(self, groups: Sequence[Group], sparsity: float) -> list[int]: ...


def active_total(groups: Sequence[Group], sparsity: float) -> int:
    """The number of active entries that a sparsity asks for."""
    return round(sum(group.size for group in groups) * (1.0 - sparsity))


@register("initial", "uniform")
class Uniform:
    """The same sparsity S in every group (Selfish-RNN Eq. 1)."""

    def __call__(self, groups: Sequence[Group], sparsity: float) -> list[int]:
        sizes = [group.size for group in groups]
        return apportion(active_total(groups, sparsity), sizes, sizes)


@register("initial", "er")
class ErdosRenyi:
    """Density of a tensor proportional to (rows + columns) / (rows * columns) (Mocanu et al. 2018, SET).

    The shapes are those of the stacked tensors. No tensor is more than dense: what exceeds it goes to the others.
    Gates that are groups of their own share their tensor's count by size.
    """

    def __call__(self, groups: Sequence[Group], sparsity: float) -> list[int]:
        sizes = [group.size for group in groups]
        return apportion(active_total(groups, sparsity), [self._share(group) for group in groups], sizes)

    def sparsity(self, groups: Sequence[Group], epsilon: float) -> float:
        """That of epsilon (rows + columns) active entries a matrix, or all of them if those are fewer."""
        active = sum(min(round(epsilon * self._share(group)), group.size) for group in groups)
        return 1.0 - active / sum(group.size for group in groups)

    def _share(self, group: Group) -> float:
        share = 0.0
        for block in group.blocks:
            rows, columns = block.weight.shape[0], block.weight.shape[1:].numel()
            share += (rows + columns) * block.size / block.weight.size
        return share


@register("initial", "er_gates")
class ErdosRenyiOfGates(ErdosRenyi):
    """The same with every gate's rows as a matrix of its own (ST-RNN Eq. 4, as its classifiers count)."""

    def _share(self, group: Group) -> float:
        return float(sum(block.rows.stop - block.rows.start + block.weight.shape[1:].numel() for block in group.blocks))


@register("initial", "dense")
class Dense:
    """Everything active: where dense-to-sparse methods begin."""

    def __call__(self, groups: Sequence[Group], sparsity: float) -> list[int]:
        return [group.size for group in groups]

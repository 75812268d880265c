"""Initial distributions: how many entries of each group are active at the start.

Which ones is drawn at random; or, for a rule with a `saliency`, decided by that, for the network as a whole.
"""

from collections.abc import Sequence
from typing import ClassVar, Protocol

from sparse_rnn.core.registry import lookup, register
from sparse_rnn.sparsity import saliency
from sparse_rnn.sparsity.groups import Group
from sparse_rnn.sparsity.saliency import Saliency
from sparse_rnn.sparsity.selection import apportion


class InitialDistribution(Protocol):
    """The number of active entries of each group; the sum is exactly round((1 - sparsity) * size of all groups)."""

    def __call__(self, groups: Sequence[Group], sparsity: float) -> list[int]: ...


def active_total(groups: Sequence[Group], sparsity: float) -> int:
    """The number of active entries in all groups together."""
    return round(sum(group.size for group in groups) * (1.0 - sparsity))


@register("initial", "uniform")
class Uniform:
    """The same sparsity S in every group (Selfish-RNN Eq. 1)."""

    def __call__(self, groups: Sequence[Group], sparsity: float) -> list[int]:
        sizes = [group.size for group in groups]
        return apportion(active_total(groups, sparsity), sizes, sizes)


@register("initial", "er")
class ErdosRenyi:
    """The density of a tensor is proportional to (rows + columns) / (rows * columns) (SET, Mocanu et al. 2018).

    The shapes are those of the stacked tensors. Entries that do not fit into a tensor go to the others in proportion.
    Gates that are groups of their own divide their tensor's count by size.
    """

    def __call__(self, groups: Sequence[Group], sparsity: float) -> list[int]:
        sizes = [group.size for group in groups]
        return apportion(active_total(groups, sparsity), [self._share(group) for group in groups], sizes)

    def sparsity(self, groups: Sequence[Group], epsilon: float) -> float:
        """The sparsity with epsilon * (rows + columns) active entries per matrix, or all entries if it has fewer."""
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
    """Erdos-Renyi with every gate's rows as a matrix of its own (ST-RNN Eq. 4, as its classifiers count)."""

    def _share(self, group: Group) -> float:
        return float(sum(block.rows.stop - block.rows.start + block.weight.shape[1:].numel() for block in group.blocks))


@register("initial", "dense")
class Dense:
    """All entries are active: the start of dense-to-sparse methods."""

    def __call__(self, groups: Sequence[Group], sparsity: float) -> list[int]:
        return [group.size for group in groups]


class BySaliency(Uniform):
    """Pruned before the first step, by scores of the untrained network; until they are known, counted as uniform.

    The number of active entries in the whole network is exact. Scoring needs dense gradients once, before training.
    """

    saliency: ClassVar[Saliency]


@register("initial", "snip")
class SNIP(BySaliency):
    """By |gradient x weight| on a few minibatches (Lee et al. 2019)."""

    saliency = staticmethod(saliency.snip)


@register("initial", "grasp")
class GraSP(BySaliency):
    """By weight x Hessian x gradient on a few minibatches (Wang et al. 2020)."""

    saliency = staticmethod(saliency.grasp)


@register("initial", "synflow")
class SynFlow(BySaliency):
    """By the flow through all paths, without data, in many rounds (Tanaka et al. 2020)."""

    saliency = staticmethod(saliency.synflow)


@register("initial", "parent")
class Parent(BySaliency):
    """By the magnitude of the weights that another run has trained (see sparsity.lottery)."""

    saliency = staticmethod(saliency.magnitude_of_parent)


def saliency_of(initial: str) -> Saliency | None:
    """What a rule scores weights by; None for one that draws them."""
    found: Saliency | None = getattr(lookup("initial", initial), "saliency", None)
    return found

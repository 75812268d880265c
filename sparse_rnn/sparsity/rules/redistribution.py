"""Redistribution rules: where as many weights grow as were removed.

A rule turns the number that each group lost into the number that each group, or gate, gains. Both sums are equal, and
no group gains more than its free positions.
"""

from collections.abc import Sequence
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from sparse_rnn.core.registry import register
from sparse_rnn.sparsity.groups import Group
from sparse_rnn.sparsity.rules.growth import Signal, Signals
from sparse_rnn.sparsity.selection import apportion

Budget = list[tuple[Group, int]]


class Redistribution(Protocol):
    """Turns `removed`, each group with the number it lost, into a budget; masks and weights are those after removal."""

    needs: ClassVar[frozenset[Signal]]

    def __call__(self, removed: Budget, signals: Signals) -> Budget: ...


@register("redistribution", "none")
class WithinGroup:
    """Every group gains what it lost."""

    needs: ClassVar[frozenset[Signal]] = frozenset()

    def __call__(self, removed: Budget, signals: Signals) -> Budget:
        return removed


class AcrossGates:
    """What a group lost goes to its own gates, in proportion to a share of each."""

    needs: ClassVar[frozenset[Signal]] = frozenset()

    def __call__(self, removed: Budget, signals: Signals) -> Budget:
        budget: Budget = []
        for group, count in removed:
            gates = group.split()
            budget += _shared(gates, count, [self.share(gate, signals) for gate in gates])
        return budget

    def share(self, gate: Group, signals: Signals) -> float:
        """The gate's share; only ratios between the gates of a group matter."""
        raise NotImplementedError


@register("redistribution", "gates")
class FreePositions(AcrossGates):
    """Cell gate redistribution (Selfish-RNN section 3.1): a gate gains in proportion to its free positions."""

    def share(self, gate: Group, signals: Signals) -> float:
        """The number of inactive entries."""
        return float(_free(gate))


@register("redistribution", "gate_magnitude")
class GateMagnitude(AcrossGates):
    """A gate gains in proportion to the mean |w| of its active weights (Selfish-RNN Table 6)."""

    def share(self, gate: Group, signals: Signals) -> float:
        """The mean |w| of active weights."""
        return _mean_active(gate.values, gate)


@register("redistribution", "gate_gradient")
class GateGradient(AcrossGates):
    """A gate gains in proportion to the mean |gradient| of its active weights (Selfish-RNN Table 6)."""

    needs: ClassVar[frozenset[Signal]] = frozenset({"gradient"})

    def share(self, gate: Group, signals: Signals) -> float:
        """The mean |gradient| of active weights."""
        return _mean_active(gate.gather(signals["gradient"]), gate)


class AcrossLayers:
    """What all groups lost together goes to all of them, in proportion to a share of each."""

    needs: ClassVar[frozenset[Signal]] = frozenset()

    def __call__(self, removed: Budget, signals: Signals) -> Budget:
        groups = [group for group, _ in removed]
        return _shared(groups, sum(count for _, count in removed), [self.share(g, signals) for g in groups])

    def share(self, group: Group, signals: Signals) -> float:
        """The group's share; only ratios between groups matter."""
        raise NotImplementedError


@register("redistribution", "layers_nonzeros")
class LayerNonzeros(AcrossLayers):
    """A group gains in proportion to the number of weights that survived removal (DSR, Mostafa & Wang 2019)."""

    def share(self, group: Group, signals: Signals) -> float:
        """The number of active entries."""
        return float(group.active.count_nonzero())


@register("redistribution", "layers_momentum")
class LayerMomentum(AcrossLayers):
    """A group gains in proportion to the mean |momentum| of its active weights (SNFS, Dettmers & Zettlemoyer 2019)."""

    needs: ClassVar[frozenset[Signal]] = frozenset({"momentum"})

    def share(self, group: Group, signals: Signals) -> float:
        """The mean |momentum| of active weights."""
        return _mean_active(group.gather(signals["momentum"]), group)


def _shared(groups: Sequence[Group], count: int, shares: Sequence[float]) -> Budget:
    # Free positions cap the shares: they include what was just removed, so that `count` always fits, and what one
    # group cannot take goes to the others instead of being lost.
    return list(zip(groups, apportion(count, shares, [_free(group) for group in groups]), strict=True))


def _free(group: Group) -> int:
    return group.size - int(group.active.count_nonzero())


def _mean_active(values: Tensor, group: Group) -> float:
    active = group.active
    count = int(active.count_nonzero())
    return float(torch.where(active, values.abs(), 0.0).double().sum()) / count if count else 0.0

"""Redistribution: where the removed weights come back.

A rule turns what each group lost into what each group (or gate) gains. The sums are equal, and nothing gains more
than it has free.
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
    """`removed` pairs each group with the number it lost; masks and weights are those after removal."""

    needs: ClassVar[frozenset[Signal]]

    def __call__(self, removed: Budget, signals: Signals) -> Budget: ...


@register("redistribution", "none")
class WithinGroup:
    """Each group gains what it lost."""

    needs: ClassVar[frozenset[Signal]] = frozenset()

    def __call__(self, removed: Budget, signals: Signals) -> Budget:
        return removed


class AcrossGates:
    """What a group lost goes to its gates by a share of each."""

    needs: ClassVar[frozenset[Signal]] = frozenset()

    def __call__(self, removed: Budget, signals: Signals) -> Budget:
        budget: Budget = []
        for group, count in removed:
            gates = group.split()
            budget += _shared(gates, count, [self.share(gate, signals) for gate in gates])
        return budget

    def share(self, gate: Group, signals: Signals) -> float:
        """The gate's share, up to a common factor."""
        raise NotImplementedError


@register("redistribution", "gates")
class FreePositions(AcrossGates):
    """Cell gate redistribution (Selfish-RNN section 3.1): every free position of the group's gates gains alike."""

    def share(self, gate: Group, signals: Signals) -> float:
        """Number of inactive entries."""
        return float(_free(gate))


@register("redistribution", "gate_magnitude")
class GateMagnitude(AcrossGates):
    """By the mean |w| of a gate's active weights (Selfish-RNN Table 6)."""

    def share(self, gate: Group, signals: Signals) -> float:
        """Mean magnitude."""
        return _mean_active(gate.values, gate)


@register("redistribution", "gate_gradient")
class GateGradient(AcrossGates):
    """By the mean |gradient| of a gate's active weights (Selfish-RNN Table 6)."""

    needs: ClassVar[frozenset[Signal]] = frozenset({"gradient"})

    def share(self, gate: Group, signals: Signals) -> float:
        """Mean gradient magnitude."""
        return _mean_active(gate.gather(signals["gradient"]), gate)


class AcrossLayers:
    """What all groups lost together goes to them by a share of each."""

    needs: ClassVar[frozenset[Signal]] = frozenset()

    def __call__(self, removed: Budget, signals: Signals) -> Budget:
        groups = [group for group, _ in removed]
        return _shared(groups, sum(count for _, count in removed), [self.share(g, signals) for g in groups])

    def share(self, group: Group, signals: Signals) -> float:
        """The group's share, up to a common factor."""
        raise NotImplementedError


@register("redistribution", "layers_nonzeros")
class LayerNonzeros(AcrossLayers):
    """By the number of weights that survived removal (DSR, Mostafa & Wang 2019)."""

    def share(self, group: Group, signals: Signals) -> float:
        """Number of active entries."""
        return float(group.active.count_nonzero())


@register("redistribution", "layers_momentum")
class LayerMomentum(AcrossLayers):
    """By the mean |momentum| of the active weights (SNFS, Dettmers & Zettlemoyer 2019)."""

    needs: ClassVar[frozenset[Signal]] = frozenset({"momentum"})

    def share(self, group: Group, signals: Signals) -> float:
        """Mean momentum magnitude."""
        return _mean_active(group.gather(signals["momentum"]), group)


def _shared(groups: Sequence[Group], count: int, shares: Sequence[float]) -> Budget:
    return list(zip(groups, apportion(count, shares, [_free(group) for group in groups]), strict=True))


def _free(group: Group) -> int:
    return group.size - int(group.active.count_nonzero())


def _mean_active(values: Tensor, group: Group) -> float:
    active = group.active
    count = int(active.count_nonzero())
    return float(torch.where(active, values.abs(), 0.0).double().sum()) / count if count else 0.0

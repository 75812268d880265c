"""Removal rules: which active weights become inactive.

With every rule, a removed weight may grow again in the same update, from value zero and with fresh optimizer state
(`protocol=official_code` keeps both). All rules read weights only, no gradients.
"""

from typing import Any, Protocol

import torch
from torch import Tensor

from sparse_rnn.core.registry import register
from sparse_rnn.sparsity.groups import Group
from sparse_rnn.sparsity.selection import apportion, select_smallest


class RemovalRule(Protocol):
    """Marks exactly `count` active entries of a group, as bool [group.size]; AdaptiveThreshold marks its own number."""

    def __call__(self, group: Group, count: int) -> Tensor: ...

    def finish(self, removed: int, asked: int) -> None:
        """Called once per update, with the totals over all groups."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Stateless:
    """Base of removal rules that keep nothing between updates."""

    def finish(self, removed: int, asked: int) -> None:
        """There is nothing to adapt to the totals."""

    def state_dict(self) -> dict[str, Any]:
        """An empty state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is nothing to restore."""


@register("removal", "magnitude")
class Magnitude(Stateless):
    """The smallest |w| of the group (Selfish-RNN Eq. 2, or Eq. 4 if the group spans gates)."""

    def __call__(self, group: Group, count: int) -> Tensor:
        return select_smallest(group.values.abs(), group.active, count)


@register("removal", "set")
class SignedMagnitude(Stateless):
    """SET's own rule: the smallest positive weights and the negative weights closest to zero.

    Each side loses a part of `count` in proportion to its number (Mocanu et al. 2018, zeta of each side). A weight of
    exactly zero counts as positive.
    """

    def __call__(self, group: Group, count: int) -> Tensor:
        values, active = group.values, group.active
        sides = active & (values >= 0), active & (values < 0)
        sizes = [int(side.count_nonzero()) for side in sides]
        counts = apportion(count, sizes, sizes)
        magnitude = values.abs()
        return select_smallest(magnitude, sides[0], counts[0]) | select_smallest(magnitude, sides[1], counts[1])


@register("removal", "threshold")
class AdaptiveThreshold:
    """DSR: every active |w| below one global threshold H, however many that are (Mostafa & Wang 2019).

    H starts at 1e-3. It doubles after an update that removed less than 0.9 of the number asked for, and halves after
    one that removed more than 1.1 of it. At least one weight of every group stays.
    """

    tolerance = 0.1

    def __init__(self) -> None:
        self.threshold = 1e-3

    def __call__(self, group: Group, count: int) -> Tensor:
        magnitude, active = group.values.abs(), group.active
        below = active & (magnitude < self.threshold)
        if bool(active.any()) and bool((below == active).all()):
            below[torch.where(active, magnitude, -1.0).argmax()] = False
        return below

    def finish(self, removed: int, asked: int) -> None:
        """Adapt H to the totals of the update."""
        if removed < (1 - self.tolerance) * asked:
            self.threshold *= 2
        elif removed > (1 + self.tolerance) * asked:
            self.threshold /= 2

    def state_dict(self) -> dict[str, Any]:
        """The threshold H."""
        return {"threshold": self.threshold}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the threshold H."""
        self.threshold = state["threshold"]

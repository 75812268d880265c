"""Removal schedules: how many weights an update removes, depending on the progress of training."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from sparse_rnn.core.registry import register
from sparse_rnn.sparsity.selection import apportion


class RemovalSchedule(Protocol):
    """`progress` is the share of training that is done, in [0, 1]."""

    def rate(self, progress: float) -> float:
        """The removal rate p or, for pruning, the sparsity asked for."""

    def counts(self, active: Sequence[int], sizes: Sequence[int], progress: float) -> list[int]:
        """How many entries to remove from each group, given how many of its entries are active."""


@dataclass(frozen=True)
class ScheduleSettings:
    """What a schedule is made from.

    initial, final: removal rates. sparsity: at the end of pruning. start, end: the window of pruning, as progress.
    until: the progress at which a falling rate reaches `final`.
    """

    initial: float
    final: float
    sparsity: float
    start: float
    end: float
    until: float = 1.0


class _ByRate:
    def __init__(self, settings: ScheduleSettings) -> None:
        self.settings = settings

    def rate(self, progress: float) -> float:
        raise NotImplementedError

    def counts(self, active: Sequence[int], sizes: Sequence[int], progress: float) -> list[int]:
        """round(p * active) of each group, but at most active - 1, so that one weight stays."""
        rate = self.rate(progress)
        return [min(round(rate * n), max(n - 1, 0)) for n in active]


@register("schedule", "constant")
class Constant(_ByRate):
    """p is constant (SET's zeta)."""

    def rate(self, progress: float) -> float:
        """The removal rate p at `progress`."""
        return self.settings.initial


@register("schedule", "linear")
class Linear(_ByRate):
    """p falls in a straight line from `initial` to `final`, which it reaches at `until`."""

    def rate(self, progress: float) -> float:
        """The removal rate p at `progress`."""
        s = self.settings
        return s.initial + (s.final - s.initial) * min(progress / s.until, 1.0)


@register("schedule", "cosine")
class Cosine(_ByRate):
    """p falls in half a cosine from `initial` to `final` (Selfish-RNN section 3.1), which it reaches at `until`
    (T_end of RigL, Evci et al. 2020).
    """

    def rate(self, progress: float) -> float:
        """The removal rate p at `progress`."""
        s = self.settings
        return s.final + (s.initial - s.final) * (1 + math.cos(math.pi * min(progress / s.until, 1.0))) / 2


@register("schedule", "cubic")
class Cubic:
    """Gradual magnitude pruning: sparsity S (1 - (1 - u)^3), u the share of the window done (Zhu & Gupta 2017).

    Exactly as many weights stay as the sparsity asks for, and every group is equally sparse.
    """

    def __init__(self, settings: ScheduleSettings) -> None:
        self.settings = settings

    def rate(self, progress: float) -> float:
        """The sparsity asked for at `progress`."""
        s = self.settings
        done = min(max((progress - s.start) / (s.end - s.start), 0.0), 1.0)
        return s.sparsity * (1 - (1 - done) ** 3)

    def counts(self, active: Sequence[int], sizes: Sequence[int], progress: float) -> list[int]:
        """What each group has beyond its share of `kept(size of all)`; in total exactly what all have beyond that."""
        kept = self.kept(sum(sizes), progress)
        shares = apportion(kept, sizes, sizes)
        excess = [max(n - share, 0) for n, share in zip(active, shares, strict=True)]
        return apportion(max(sum(active) - kept, 0), excess, active)

    def kept(self, size: int, progress: float) -> int:
        """How many of `size` entries are active at `progress`."""
        return round((1.0 - self.rate(progress)) * size)

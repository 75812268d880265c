"""Schedules: how many weights an update removes, regrows, gains or loses, depending on the progress of training."""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from sparse_rnn.core.registry import register
from sparse_rnn.sparsity.selection import apportion


class RemovalSchedule(Protocol):
    """`progress` is the share of training that is done, in [0, 1].

    prunes: whether the number of active weights changes; it is then `kept`. regrows: whether updates grow weights.
    """

    prunes: ClassVar[bool]
    regrows: ClassVar[bool]

    def rate(self, progress: float) -> float:
        """The removal rate p or, where nothing regrows, the sparsity asked for."""

    def counts(self, active: Sequence[int], sizes: Sequence[int], progress: float) -> list[int]:
        """How many entries to remove from each group, given how many of its entries are active."""

    def excess(self, active: Sequence[int], sizes: Sequence[int], progress: float) -> list[int]:
        """How many of its active entries each group loses for good; negative if it gains. The others are regrown."""

    def moved(self, left: Sequence[int], sizes: Sequence[int], progress: float) -> list[int]:
        """How many of the entries that are `left` without its excess each group regrows; only where it prunes."""

    @property
    def edges(self) -> list[float]:
        """The progress at which updates may begin, and where one is due whatever the interval, the last at the end."""

    def turns(self, before: float, progress: float) -> bool:
        """Whether an update is due between two steps, whatever the interval."""

    def sparsity(self, progress: float) -> float:
        """The sparsity asked for; only where the schedule prunes."""

    def kept(self, size: int, progress: float) -> int:
        """How many of `size` entries are active after an update; only where the schedule prunes."""


@dataclass(frozen=True)
class ScheduleSettings:
    """What a schedule is made from.

    initial, final: removal rates. start_sparsity, sparsity: at the start and the end of pruning. start, end: the window
    of pruning, as progress. until: the progress at which a falling rate reaches `final`. alternations: the number of
    dense phases inside the window.
    """

    initial: float
    final: float
    sparsity: float
    start: float
    end: float
    until: float = 1.0
    start_sparsity: float = 0.0
    alternations: int = 1


class _ByRate:
    """Every group regrows what it loses, so that the number of active weights stays."""

    prunes: ClassVar[bool] = False
    regrows: ClassVar[bool] = True

    def __init__(self, settings: ScheduleSettings) -> None:
        self.settings = settings

    def rate(self, progress: float) -> float:
        raise NotImplementedError

    def counts(self, active: Sequence[int], sizes: Sequence[int], progress: float) -> list[int]:
        """round(p * active) of each group, but at most active - 1, so that one weight stays."""
        return _share_of(self.rate(progress), active)

    def excess(self, active: Sequence[int], sizes: Sequence[int], progress: float) -> list[int]:
        """None of any group."""
        return [0] * len(active)

    def moved(self, left: Sequence[int], sizes: Sequence[int], progress: float) -> list[int]:
        """As many as are removed."""
        return self.counts(left, sizes, progress)

    @property
    def edges(self) -> list[float]:
        """Updates may begin at once."""
        return [0.0]

    def turns(self, before: float, progress: float) -> bool:
        """Never: the interval decides."""
        return False


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
        return _cosine(self.settings, progress)


@register("schedule", "steps")
class Steps(_ByRate):
    """p until 9/16 of `until`, p/2 until 3/4, then `final`: elastic mutation (MEST, Yuan et al. 2021).

    The shares are those of its scripts, which change p at epochs 90 and 120 of 160.
    """

    halved: ClassVar[float] = 9 / 16
    ended: ClassVar[float] = 3 / 4

    def rate(self, progress: float) -> float:
        """The removal rate p at `progress`."""
        s, done = self.settings, progress / self.settings.until
        if done >= self.ended:
            return s.final
        return s.initial / 2 if done >= self.halved else s.initial


class _ToSparsity:
    """Exactly as many weights stay as the sparsity asks for, and every group is equally sparse."""

    prunes: ClassVar[bool] = True
    regrows: ClassVar[bool] = True

    def __init__(self, settings: ScheduleSettings) -> None:
        self.settings = settings

    def sparsity(self, progress: float) -> float:
        raise NotImplementedError

    def kept(self, size: int, progress: float) -> int:
        """How many of `size` entries are active at `progress`."""
        return round((1.0 - self.sparsity(progress)) * size)

    def excess(self, active: Sequence[int], sizes: Sequence[int], progress: float) -> list[int]:
        """What each group has beyond its share of `kept(size of all)`; in total exactly what all have beyond that.

        Negative, in the same way, for what they lack.
        """
        kept, total = self.kept(sum(sizes), progress), sum(active)
        shares = apportion(kept, sizes, sizes)
        if total >= kept:
            return apportion(total - kept, [max(n - share, 0) for n, share in zip(active, shares, strict=True)], active)
        lacking = [max(share - n, 0) for n, share in zip(active, shares, strict=True)]
        free = [size - n for n, size in zip(active, sizes, strict=True)]
        return [-gained for gained in apportion(kept - total, lacking, free)]

    def counts(self, active: Sequence[int], sizes: Sequence[int], progress: float) -> list[int]:
        """The excess of each group, and what it removes of the rest to regrow it."""
        lost = [max(n, 0) for n in self.excess(active, sizes, progress)]
        left = [n - gone for n, gone in zip(active, lost, strict=True)]
        return [gone + n for gone, n in zip(lost, self.moved(left, sizes, progress), strict=True)]

    def moved(self, left: Sequence[int], sizes: Sequence[int], progress: float) -> list[int]:
        """How many of the entries that are `left` of each group are removed to be regrown; here none."""
        return [0] * len(left)

    @property
    def edges(self) -> list[float]:
        """The ends of the window."""
        return [self.settings.start, self.settings.end]

    def turns(self, before: float, progress: float) -> bool:
        """Where the window ends, so that the sparsity asked for is reached exactly."""
        return before < self.settings.end <= progress

    def done(self, progress: float) -> float:
        """The share of the window that is over, in [0, 1]."""
        s = self.settings
        return min(max((progress - s.start) / (s.end - s.start), 0.0), 1.0)

    def between(self, share: float) -> float:
        """The sparsity after a share of the way from the first to the last."""
        s = self.settings
        return s.sparsity if share >= 1.0 else s.start_sparsity + (s.sparsity - s.start_sparsity) * share


@register("schedule", "cubic")
class Cubic(_ToSparsity):
    """Gradual magnitude pruning: sparsity S0 + (S - S0) (1 - (1 - u)^3), u the share of the window done (Zhu & Gupta
    2017).
    """

    regrows: ClassVar[bool] = False

    def sparsity(self, progress: float) -> float:
        """The sparsity asked for at `progress`."""
        return self.between(1 - (1 - self.done(progress)) ** 3)

    def rate(self, progress: float) -> float:
        """The sparsity asked for at `progress`."""
        return self.sparsity(progress)


class _Regrowing(_ToSparsity):
    """Besides, every group regrows round(p * rest) of its rest, p falling as in schedule=cosine."""

    def rate(self, progress: float) -> float:
        """The removal rate p at `progress`."""
        return _cosine(self.settings, progress)

    def moved(self, left: Sequence[int], sizes: Sequence[int], progress: float) -> list[int]:
        """round(p * left) of each group, but at most left - 1."""
        return _share_of(self.rate(progress), left)


@register("schedule", "cubic_regrowth")
class CubicRegrowth(_Regrowing):
    """The sparsity of schedule=cubic, and zero-cost neuroregeneration: as many of the rest as p says are removed and
    regrown (GraNet, Liu et al. 2021, Algorithm 1).
    """

    def sparsity(self, progress: float) -> float:
        """The sparsity asked for at `progress`."""
        return self.between(1 - (1 - self.done(progress)) ** 3)


@register("schedule", "sigmoid_regrowth")
class SigmoidRegrowth(_Regrowing):
    """Density decays in a sigmoid of steepness 6, scaled to begin and end exactly (CHTss, Zhang et al. 2025)."""

    steepness: ClassVar[float] = 6.0

    def sparsity(self, progress: float) -> float:
        """The sparsity asked for at `progress`."""
        reached = math.tanh(self.steepness * (self.done(progress) - 0.5)) / math.tanh(self.steepness / 2)
        return self.between((1 + reached) / 2)


@register("schedule", "alternating")
class Alternating(_ToSparsity):
    """AC/DC (Peste et al. 2021): dense until the window begins, in it sparse and dense phases of equal length by turns,
    and sparse after it. Nothing moves within a phase, and an update is due where one ends, whatever the interval.
    """

    @property
    def edges(self) -> list[float]:
        """The ends of the phases."""
        s, phases = self.settings, 2 * self.settings.alternations
        return [*(s.start + (s.end - s.start) * k / phases for k in range(phases)), s.end]

    def turns(self, before: float, progress: float) -> bool:
        """Where a phase ends."""
        return bisect_right(self.edges, before) != bisect_right(self.edges, progress)

    def sparsity(self, progress: float) -> float:
        """The sparsity asked for at `progress`, or 0 in a dense phase."""
        s = self.settings
        return s.sparsity if bisect_right(self.edges, progress) % 2 else s.start_sparsity

    def rate(self, progress: float) -> float:
        """0: no weights are exchanged."""
        return 0.0


@register("schedule", "elastic")
class Elastic(_ToSparsity):
    """MEST with a soft memory bound (Yuan et al. 2021, MEST+EM&S): an update removes down to the sparsity asked for and
    then grows p times as many weights as that leaves, which the next update puts to the test.

    p holds until 3/4 of the window and p/2 to its end, after which the sparsity is reached.
    """

    halved: ClassVar[float] = Steps.halved / Steps.ended

    def rate(self, progress: float) -> float:
        """The removal rate p at `progress`."""
        done = self.done(progress)
        if done >= 1.0:
            return 0.0
        return self.settings.initial / 2 if done >= self.halved else self.settings.initial

    def sparsity(self, progress: float) -> float:
        """The sparsity between updates, below the one asked for until the window ends."""
        s, extra = self.settings, self.rate(progress)
        return max(1 - (1 - s.sparsity) * (1 + extra), 0.0) if extra and progress > s.start else s.sparsity

    def moved(self, left: Sequence[int], sizes: Sequence[int], progress: float) -> list[int]:
        """What each group has beyond the sparsity asked for."""
        base = round((1 - self.settings.sparsity) * sum(sizes))
        shares = apportion(base, sizes, sizes)
        beyond = [max(n - share, 0) for n, share in zip(left, shares, strict=True)]
        return apportion(max(sum(left) - base, 0), beyond, left)


def _cosine(s: ScheduleSettings, progress: float) -> float:
    return s.final + (s.initial - s.final) * (1 + math.cos(math.pi * min(progress / s.until, 1.0))) / 2


def _share_of(rate: float, active: Sequence[int]) -> list[int]:
    return [min(round(rate * n), max(n - 1, 0)) for n in active]

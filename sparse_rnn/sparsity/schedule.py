"""How many weights an update removes, as training goes on."""

import math
from dataclasses import dataclass
from typing import Protocol

from sparse_rnn.registry import register


class RemovalSchedule(Protocol):
    """`progress` is the share of training done, in [0, 1]."""

    def rate(self, progress: float) -> float:
        """The removal rate p, or for pruning the sparsity asked for."""

    def count(self, active: int, size: int, progress: float) -> int:
        """How many of a group's `active` of `size` entries to remove."""


@dataclass(frozen=True)
class ScheduleSettings:
    """What a schedule is made from: `initial` and `final` rate, the `sparsity` of the end, the pruning window."""

    initial: float
    final: float
    sparsity: float
    start: float
    end: float


class _ByRate:
    def __init__(self, settings: ScheduleSettings) -> None:
        self.settings = settings

    def rate(self, progress: float) -> float:
        raise NotImplementedError

    def count(self, active: int, size: int, progress: float) -> int:
        """round(p * active), at most active - 1 so that something stays."""
        return min(round(self.rate(progress) * active), max(active - 1, 0))


@register("schedule", "constant")
class Constant(_ByRate):
    """p stays as it is (SET's zeta)."""

    def rate(self, progress: float) -> float:
        """p at `progress`."""
        return self.settings.initial


@register("schedule", "linear")
class Linear(_ByRate):
    """p falls in a straight line from `initial` to `final`."""

    def rate(self, progress: float) -> float:
        """p at `progress`."""
        s = self.settings
        return s.initial + (s.final - s.initial) * min(progress, 1.0)


@register("schedule", "cosine")
class Cosine(_ByRate):
    """p falls in half a cosine from `initial` to `final` (Selfish-RNN section 3.1)."""

    def rate(self, progress: float) -> float:
        """p at `progress`."""
        s = self.settings
        return s.final + (s.initial - s.final) * (1 + math.cos(math.pi * min(progress, 1.0))) / 2


@register("schedule", "cubic")
class Cubic:
    """Gradual magnitude pruning: s_t = S (1 - (1 - u)^3), u the share of the window done (Zhu & Gupta 2017).

    The count is that of the sparsity asked for, exactly.
    """

    def __init__(self, settings: ScheduleSettings) -> None:
        self.settings = settings

    def rate(self, progress: float) -> float:
        """The sparsity asked for at `progress`."""
        s = self.settings
        done = min(max((progress - s.start) / (s.end - s.start), 0.0), 1.0)
        return s.sparsity * (1 - (1 - done) ** 3)

    def count(self, active: int, size: int, progress: float) -> int:
        """What exceeds round((1 - s_t) * size)."""
        return max(active - round((1.0 - self.rate(progress)) * size), 0)

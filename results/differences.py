"""The difference between two rows of a table, paired over their seeds, with its 95 % interval."""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Difference:
    """The mean of A - B over the seeds that both have, and the interval of Student's t around it.

    One seed has no interval: its limits are infinite. A run that diverged makes the mean infinite or NaN.
    """

    seeds: tuple[int, ...]
    mean: float
    low: float
    high: float

    @property
    def apart(self) -> bool:
        """Whether the interval leaves zero out: whether A and B can be told apart."""
        return self.low > 0 or self.high < 0

    def __neg__(self) -> "Difference":
        return Difference(self.seeds, -self.mean, -self.high, -self.low)


def paired(a: Mapping[int, float], b: Mapping[int, float]) -> Difference | None:
    """The difference between values by seed; None if there is no seed that both have.

    Runs of one seed share the initial weights and the order of the data, so what these contribute to both cancels.
    """
    seeds = tuple(sorted(a.keys() & b.keys()))
    if not seeds:
        return None
    each = [a[seed] - b[seed] for seed in seeds]
    mean = statistics.fmean(each)
    if len(each) < 2 or not all(map(math.isfinite, each)):
        return Difference(seeds, mean, -math.inf, math.inf)
    from scipy.special import stdtrit  # plain tables need not wait for scipy

    half = float(stdtrit(len(each) - 1, (1 + CONFIDENCE) / 2)) * statistics.stdev(each) / math.sqrt(len(each))
    return Difference(seeds, mean, mean - half, mean + half)

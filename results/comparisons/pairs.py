"""Two rows of a block, compared over their seeds: the values, their difference, and the sentence that it amounts to."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.core.metrics import Metric, is_share, metric_named
from sparse_rnn.core.wording import ranges
from sparse_rnn.tables.declaration import Block

from ..differences import Difference, paired
from ..gathering import Gathered
from ..sources.logs import BEST, LoggedRun


@dataclass(frozen=True)
class Pair:
    """Rows `a` and `b` of a block.

    metric: a key of the runs' last rows without `best/`. by_seed: the values of both. run_ids: of the runs that have
    them.
    """

    block: str
    a: str
    b: str
    metric: str
    by_seed: tuple[Mapping[int, float], Mapping[int, float]]
    run_ids: tuple[str, ...]

    @property
    def difference(self) -> Difference | None:
        """a - b; None as long as no seed of both is finished."""
        return paired(*self.by_seed)

    @property
    def judged(self) -> Metric | None:
        """What makes one of two runs the better one; None for metrics that do not."""
        return metric_named(self.metric)

    @property
    def is_share(self) -> bool:
        """Whether values are shares, of which more is better, and which are shown in per cent."""
        return is_share(self.metric)

    @property
    def worse(self) -> Difference | None:
        """By how much a is worse than b: the difference with its sign turned where more is better."""
        found = self.difference
        return -found if found and self.is_share else found

    @property
    def sentence(self) -> str:
        """What the difference says."""
        found = self.difference
        if found is None:
            return f"No seed of both {self.a} and {self.b} is finished."
        by = self.shown(abs(found.mean), difference=True)
        if not math.isfinite(found.mean):
            return f"A run diverged: {self.a} and {self.b} have no difference over {_seeds(found)}."
        more = "equals" if found.mean == 0 else f"is {by} {'above' if found.mean > 0 else 'below'}"
        said = f"{self.metric} of {self.a} {more} that of {self.b} in the mean over {_seeds(found)}"
        if len(found.seeds) == 1:
            return f"{said}; one seed gives no interval."
        said += f" (95 % interval of the difference {self.interval(found)}, paired)"
        if not found.apart:
            return f"{said}: these seeds cannot tell them apart."
        assert self.worse is not None
        better = self.a if self.worse.mean < 0 else self.b
        return f"{said}: {better} is better." if self.judged else f"{said}: they differ."

    def interval(self, found: Difference) -> str:
        """The interval in words."""
        low, high = (self.shown(limit, difference=True, signed=True) for limit in (found.low, found.high))
        return f"{low} to {high}" if len(found.seeds) > 1 else "none"

    def shown(self, value: float, *, difference: bool = False, signed: bool = False) -> str:
        """A value as texts have it: perplexities with two decimals, accuracies in per cent."""
        sign = "+" if signed else ""
        if self.is_share:
            return f"{100 * value:{sign}.2f} points" if difference else f"{value:.2%}"
        decimals = 0 if self.metric.endswith("parameters") else self.judged.decimals if self.judged else 2
        return f"{value:{sign},.{decimals}f}"


def pair_of(gathered: Gathered, block: Block, metric: str | None = None) -> Pair:
    """The first two rows of a block; metric: None for the test result of the runs. Raises ConfigError."""
    a, b = (row.label for row in block.rows[:2])
    found: dict[str, dict[int, float]] = {a: {}, b: {}}
    ids = []
    for planned, log in gathered.finished():
        if planned.block == block.label and planned.row in found:
            metric = metric or f"test/{log.metric}"
            found[planned.row][planned.seed] = _value(log, metric)
            ids.append(planned.run_id)
    return Pair(block.label, a, b, metric or "test/perplexity", (found[a], found[b]), tuple(ids))


def _value(log: LoggedRun, metric: str) -> float:
    final = {name.removeprefix(BEST): value for name, value in (log.final or {}).items() if name.startswith(BEST)}
    if metric not in final:
        raise ConfigError(f"{log.run_id} has no {metric}{suggest(metric, final)}.")
    return float(final[metric])


def _seeds(found: Difference) -> str:
    return f"seed{'s' if len(found.seeds) > 1 else ''} {ranges(found.seeds)}"

"""The points of a figure's panels: test results of its finished runs, as means over seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from ..gathering import Gathered, Planned
from ..sources.logs import LoggedRun

COLUMNS = ("panel", "row", "x", "sparsity", "metric", "mean", "std", "finished", "planned")
SPARSITY, EPSILON = "sparsifier.sparsity", "sparsifier.epsilon"


def points(gathered: Gathered) -> pd.DataFrame:
    """One line for every point with a finished run, with the columns COLUMNS.

    x: the value in the runs' configuration, NaN for lines across and bars. sparsity: as logged, mean over the runs.
    metric: `test perplexity`, or `test accuracy` in [0, 1], for example. std: of a sample (n - 1), NaN below two runs.
    """
    groups: dict[tuple[str, str, Any], list[Planned]] = {}
    for run in gathered.planned:
        groups.setdefault((run.block, run.row, run.x), []).append(run)
    keys = {block.label: block.x.key for block in gathered.spec.blocks if block.x}
    lines = []
    for (panel, row, x), planned in groups.items():
        finished = [log for each in planned if (log := gathered.run(each)) is not None and log.final]
        if finished:
            where = math.nan if x is None else value(planned[0].facts.config, keys[panel])
            lines.append((panel, row, where, *_summary(finished), len(finished), len(planned)))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def value(config: Mapping[str, Any], key: str) -> float | str:
    """The value of a dotted key such as sparsifier.sparsity; a number if it can be read as one."""
    found: Any = config
    for name in key.split("."):
        found = found[name]
    try:
        return float(found)
    except (TypeError, ValueError):
        return str(found)


def _summary(finished: Sequence[LoggedRun]) -> tuple[float, str, float, float]:
    """Mean sparsity, metric, and mean and deviation of it, from the last rows of runs."""
    metric, finals = finished[0].metric, [log.final or {} for log in finished]
    values = [float(final[f"best/test/{metric}"]) for final in finals]
    sparsity = statistics.fmean(float(final.get("best/sparsity/model", 0.0)) for final in finals)
    finite = len(values) > 1 and all(map(math.isfinite, values))
    return sparsity, f"test {metric}", statistics.fmean(values), statistics.stdev(values) if finite else math.nan

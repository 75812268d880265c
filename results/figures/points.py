"""What the panels of a figure show: test results of its finished runs, and where they cross those of dense networks."""

import math
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from results.figures.crossings import crossing
from results.gathering import Asked, Planned
from results.sources.logs import LoggedRun
from sparse_rnn.tables.declaration import Block, Row

COLUMNS = ("panel", "row", "x", "sparsity", "metric", "mean", "std", "finished", "planned")

SPARSITY, EPSILON = "sparsifier.sparsity", "sparsifier.epsilon"

ACCURACY = "accuracy"


def points(asked: Asked) -> pd.DataFrame:
    """A line for every point with a finished run. x: as the runs have it, NaN for lines across and bars. sparsity:
    logged, mean over the runs. metric: `test perplexity`, or `test accuracy` in [0, 1]. std: NaN below two runs."""
    groups: dict[tuple[str, str, Any], list[Planned]] = {}
    for run in asked.planned:
        groups.setdefault((run.block, run.row, run.x), []).append(run)
    keys = {block.label: block.x.key for block in asked.spec.blocks if block.x}
    lines = []
    for (panel, row, x), planned in groups.items():
        finished = [log for each in planned if (log := asked.run(each)) is not None and log.final]
        if finished:
            where = math.nan if x is None else value(planned[0].facts.config, keys[panel])
            lines.append((panel, row, where, *_summary(finished), len(finished), len(planned)))
    return pd.DataFrame(lines, columns=list(COLUMNS))


def crossings(asked: Asked, data: pd.DataFrame) -> pd.DataFrame:
    """For every curve over sparsity with a line of the same model, dense, the point where it crosses that line.

    Like the points, with `metric` saying `..., as good as dense`; see results.crossings for what counts.
    """
    found = []
    for block, row, curve, dense in _compared(asked, data):
        metric = str(curve["metric"].iloc[0])
        sign = -1.0 if metric.endswith(ACCURACY) else 1.0
        sparsity = crossing(curve["sparsity"].tolist(), (sign * curve["mean"]).tolist(), sign * dense)
        if sparsity is not None:
            counts = int(curve["finished"].sum()), int(curve["planned"].sum())
            told = f"{metric}, as good as dense"
            found.append((block.label, row.label, math.nan, sparsity, told, dense, math.nan, *counts))
    return pd.DataFrame(found, columns=list(COLUMNS))


def shares(asked: Asked, data: pd.DataFrame, matches: pd.DataFrame) -> Iterator[str]:
    """A sentence for every panel whose curves can be compared with dense."""
    said: dict[str, list[str]] = {}
    for block, row, curve, _ in _compared(asked, data):
        found = matches[(matches["panel"] == block.label) & (matches["row"] == row.label)]["sparsity"].tolist()
        if found:
            words = f"{'at most ' if found[0] == curve['sparsity'].max() else ''}{1 - found[0]:.0%}"
        else:
            words = f"more than {1 - curve['sparsity'].min():.0%}"
        said.setdefault(block.label, []).append(f"{row.label} {words}")
    for label, each in said.items():
        yield f"{label}: share of the parameters with which it is as good as dense: {', '.join(each)}."


def _compared(asked: Asked, data: pd.DataFrame) -> Iterator[tuple[Block, Row, pd.DataFrame, float]]:
    """Curves over sparsity, as far as they are there, with the mean of the dense runs they are measured by."""
    for block, row, dense in pairs(asked):
        own = data[data["panel"] == block.label]
        curve, reference = own[own["row"] == row.label], own[own["row"] == dense.label]["mean"]
        if len(curve) and len(reference) and math.isfinite(reference.iloc[0]):
            yield block, row, curve, float(reference.iloc[0])


def pairs(asked: Asked) -> Iterator[tuple[Block, Row, Row]]:
    """Every curve over sparsity with the line of its model, dense."""
    configs = {(run.block, run.row): run.facts.config for run in asked.planned}
    for block in asked.spec.blocks:
        if block.x is None or block.x.key not in (SPARSITY, EPSILON):
            continue
        of = {row: configs[block.label, row.label] for row in block.rows if not row.reported}
        for row, config in of.items():
            for dense, other in of.items():
                alike = all(config[group]["name"] == other[group]["name"] for group in ("model", "dataset"))
                if alike and dense.line and not row.line and other["sparsifier"]["name"] == "dense":
                    yield block, row, dense


def value(config: Mapping[str, Any], key: str) -> float | str:
    """What a configuration has for a key such as sparsifier.sparsity; a number if it can be read as one."""
    found: Any = config
    for name in key.split("."):
        found = found[name]
    try:
        return float(found)
    except (TypeError, ValueError):
        return str(found)


def _summary(finished: Sequence[LoggedRun]) -> tuple[float, str, float, float]:
    """Sparsity, metric, mean and deviation of runs by their last rows."""
    metric, finals = finished[0].metric, [log.final or {} for log in finished]
    values = [float(final[f"best/test/{metric}"]) for final in finals]
    sparsity = statistics.fmean(float(final.get("best/sparsity/model", 0.0)) for final in finals)
    finite = len(values) > 1 and all(map(math.isfinite, values))
    return sparsity, f"test {metric}", statistics.fmean(values), statistics.stdev(values) if finite else math.nan

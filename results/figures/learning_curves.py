"""The course of training of any runs: validation by epoch, one curve for each row, over its seeds."""

import math
from collections.abc import Iterator

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sparse_rnn.core.metrics import is_share

from ..gathering import Gathered
from ..sources.logs import LoggedRun
from .panels import by_block, drawing
from .style import Drawing, band, empty, line

COLUMNS = ("panel", "row", "epoch", "metric", "mean", "std", "finished", "planned")
DECADE = 10.0  # perplexities that span more are on a logarithmic scale
MARKS = 12  # on one curve, at most


def draw(gathered: Gathered) -> Drawing:
    """One panel per block: means over the finished seeds, and a band of one standard deviation (n - 1)."""
    data = pd.DataFrame(_lines(gathered), columns=list(COLUMNS))
    figure, axes = by_block(gathered.spec, width=4.2, height=3.0)
    rows = list(dict.fromkeys(row.label for block in gathered.spec.blocks for row in block.rows))
    for block in gathered.spec.blocks:
        panel = data[data["panel"] == block.label]
        if panel.empty:
            empty(axes[block.label])
        else:
            _curves(axes[block.label], panel, rows)
    several = ["Means over seeds, bands of one standard deviation."] if (data["finished"] > 1).any() else []
    return drawing(gathered, figure, data, several)


def _lines(gathered: Gathered) -> Iterator[tuple[str, str, int, str, float, float, int, int]]:
    planned: dict[tuple[str, str], int] = {}
    logs: dict[tuple[str, str], list[LoggedRun]] = {}
    for run in gathered.planned:
        planned[run.block, run.row] = planned.get((run.block, run.row), 0) + 1
    for run, log in gathered.finished():
        logs.setdefault((run.block, run.row), []).append(log)
    for (block, row), finished in logs.items():
        metric = finished[0].metric
        each = pd.concat([_epochs(log, metric) for log in finished])
        for epoch in sorted(each["epoch"].unique()):
            values = each["value"][each["epoch"] == epoch]
            std = values.std() if len(values) > 1 else math.nan
            yield block, row, int(epoch), f"valid {metric}", values.mean(), std, len(values), planned[block, row]


def _epochs(log: LoggedRun, metric: str) -> pd.DataFrame:
    """Epoch and value of every validation of a run that gave a finite number."""
    column = f"valid/{metric}"
    rows = log.history.dropna(subset=[column])[["epoch", column]].rename(columns={column: "value"})
    return rows[rows["value"].map(math.isfinite)]


def _curves(axes: Axes, panel: pd.DataFrame, rows: list[str]) -> None:
    metric = str(panel["metric"].iloc[0])
    for row, curve in panel.groupby("row", sort=False):
        look = dict(line(rows.index(str(row))))
        every = -(-len(curve) // MARKS)
        axes.plot(curve["epoch"], curve["mean"], label=row, markevery=every, **look)
        band(axes, list(curve["epoch"]), curve["mean"], curve["std"], look["color"])
    axes.set(xlabel="epoch", ylabel=metric)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if is_share(metric):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    elif panel["mean"].max() > DECADE * panel["mean"].min():
        axes.set_yscale("log")

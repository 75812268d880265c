"""Test results over what a figure varies: one curve per row, a horizontal line for a row that does not vary.

Blocks without an x are drawn as bars.
"""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from sparse_rnn.core.metrics import is_share
from sparse_rnn.tables.declaration import Block

from ..gathering import Gathered
from .crossings import crossings, pairs, shares
from .panels import by_block, drawing
from .points import EPSILON, SPARSITY, points, value
from .style import BAND, COLORS, SMALL, Drawing, band, bar, empty, line

UNITS = {"sparsifier.update_interval": " (steps)"}
FAR = 3.0  # medians of its panel, above which a point is drawn at the panel's edge
DECADE = 10.0
MANY = 10  # values of x, above which they have no tick each
NEAR: dict[str, Any] = {"textcoords": "offset points", "fontsize": SMALL}


def draw(gathered: Gathered) -> Drawing:
    """One panel per block: means over the finished seeds, with bands or bars of one standard deviation (n - 1)."""
    data = points(gathered)
    matches = crossings(gathered, data)
    figure, axes = by_block(gathered.spec)
    numbers = _numbers(gathered)
    for block in gathered.spec.blocks:
        panel = data[data["panel"] == block.label]
        if panel.empty:
            empty(axes[block.label])
        elif block.x:
            _curves(axes[block.label], block, panel, numbers, _places(gathered, block))
            _mark(axes[block.label], block, matches[matches["panel"] == block.label], numbers, _ceiling(panel))
        else:
            _bars(axes[block.label], block, panel, numbers)
    varied = any(block.x for block in gathered.spec.blocks)
    several = (
        [f"Means over seeds, {'bands' if varied else 'bars'} of one standard deviation."]
        if (data["finished"] > 1).any()
        else []
    )
    everything = pd.concat([data, matches], ignore_index=True) if len(matches) else data
    return drawing(gathered, figure, everything, [*several, *shares(gathered, data, matches)])


def _numbers(gathered: Gathered) -> dict[str, int]:
    """The number of each row's style. If a panel has several dense lines, each looks like the curve of its model."""
    labels = [row.label for block in gathered.spec.blocks for row in block.rows]
    paired = {dense.label: row.label for block, row, dense in pairs(gathered) if sum(r.line for r in block.rows) > 1}
    own = list(dict.fromkeys(label for label in labels if label not in paired))
    return {label: own.index(paired.get(label, label)) for label in labels}


def _places(gathered: Gathered, block: Block) -> list[float | str]:
    """The values of x of all runs of a panel, finished or not; in order if they are numbers."""
    assert block.x is not None
    own = [run for run in gathered.planned if run.block == block.label and run.x is not None]
    places = list(dict.fromkeys(value(run.facts.config, block.x.key) for run in own))
    return sorted(places) if all(isinstance(place, float) for place in places) else places


def _curves(
    axes: Axes, block: Block, panel: pd.DataFrame, numbers: Mapping[str, int], places: Sequence[float | str]
) -> None:
    assert block.x is not None
    metric, ceiling = str(panel["metric"].iloc[0]), _ceiling(panel)
    at = _axis(axes, block.x.key, places, panel)
    beyond: list[tuple[float, str, Mapping[str, Any]]] = []
    for row in block.rows:
        own = panel[panel["row"] == row.label]
        look = dict(line(numbers[row.label]))
        inside = own["mean"] <= ceiling
        if own.empty:
            continue
        if row.line and inside.all():
            _across(axes, own.iloc[0], row.label, look)
        elif row.line:
            beyond.append((axes.get_xlim()[0], f"{row.label} {_number(own['mean'].iloc[0])}", {"marker": ""}))
        else:
            own = own.sort_values("x", key=lambda xs: xs.map(at))
            inside = own["mean"] <= ceiling
            xs, means, spread = [at(x) for x in own["x"]], own["mean"].where(inside), own["std"]
            axes.plot(xs, means, label=row.label, **look)
            band(axes, xs, means, spread, look["color"])
            away = [(x, mean) for x, mean, near in zip(xs, own["mean"], inside, strict=True) if not near]
            beyond += [(x, _number(mean), look) for x, mean in away]
    _beyond(axes, beyond)
    axes.set_ylabel(metric)
    axes.margins(y=0.08)
    if beyond:
        low, high = axes.get_ylim()
        axes.set_ylim(low, high + (high - low) * 0.1)
    if is_share(metric):
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))


def _axis(axes: Axes, key: str, places: Sequence[float | str], panel: pd.DataFrame) -> Any:
    """Set up the x axis with a tick per value; returns the function from a value to its position.

    Texts are spaced evenly; numbers that span a factor of ten or more are on a logarithmic scale.
    """
    name = key.rpartition(".")[2].replace("_", " ") + UNITS.get(key, "")
    axes.set_xlabel(f"{name}, sparsity that it gave" if key == EPSILON else name)
    numeric = [place for place in places if isinstance(place, float)]
    if len(numeric) < len(places):
        axes.set_xticks(range(len(places)), [_number(place) for place in places])
        axes.set_xlim(-0.5, len(places) - 0.5)
        return places.index
    logarithmic = min(numeric) > 0 and max(numeric) >= DECADE * min(numeric)
    if logarithmic:
        axes.set_xscale("log")
    low, high = min(numeric), max(numeric)
    margin = (high / low) ** 0.06 if logarithmic else 0.06 * (high - low) or 0.05
    axes.set_xlim((low / margin, high * margin) if logarithmic else (low - margin, high + margin))
    if len(numeric) > MANY:
        return float
    reached = dict(panel.groupby("x")["sparsity"].mean()) if key == EPSILON else {}
    labels = [f"{place:g}\n{reached[place]:.1%}" if place in reached else f"{place:g}" for place in numeric]
    axes.set_xticks(numeric, labels)
    axes.set_xticks([], minor=True)
    return float


def _across(axes: Axes, point: pd.Series, label: str, look: Mapping[str, Any]) -> None:
    axes.axhline(point["mean"], label=label, **{**look, "marker": "", "linewidth": 1.0})
    if not math.isnan(point["std"]):
        axes.axhspan(point["mean"] - point["std"], point["mean"] + point["std"], color=look["color"], **BAND)


def _ceiling(panel: pd.DataFrame) -> float:
    """The perplexity above which points are drawn at the panel's edge, since a diverged run would squash all others."""
    finite = [mean for mean in panel["mean"] if math.isfinite(mean)]
    if is_share(panel["metric"].iloc[0]):
        return math.inf
    return FAR * statistics.median_low(finite) if finite else 0.0


def _beyond(axes: Axes, found: Iterable[tuple[float, str, Mapping[str, Any]]]) -> None:
    """Draw marks with their value at the upper edge, one below the other; found: x, text and style of each."""
    left = axes.get_xlim()[0]
    high: dict[float, float] = {}
    for x, text, look in found:
        high[x] = high.get(x, 1.06) - 0.08
        axes.plot(x, high[x], **{**look, "linestyle": ""}, transform=axes.get_xaxis_transform(), clip_on=False)
        axes.annotate(
            f"{text} \N{UPWARDS ARROW}",
            (x, high[x]),
            (4 if x == left else -5, 0),
            xycoords=axes.get_xaxis_transform(),
            ha="left" if x == left else "right",
            va="center",
            **NEAR,
        )


def _number(value: float | str) -> str:
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        return "diverged"
    return f"{value:.4g}".replace("e+0", "e").replace("e+", "e")


def _mark(axes: Axes, block: Block, matches: pd.DataFrame, numbers: Mapping[str, int], ceiling: float) -> None:
    """Mark where curves cross the lines of their dense models, with the share of parameters at that point."""
    assert block.x is not None
    if block.x.key != SPARSITY:
        return
    for row, sparsity, mean in matches[["row", "sparsity", "mean"]].itertuples(index=False, name=None):
        if mean <= ceiling:
            color = COLORS[numbers[row] % len(COLORS)]
            axes.plot(sparsity, mean, "o", markersize=9, markerfacecolor="none", markeredgecolor=color)
            axes.annotate(f"{1 - sparsity:.0%}", (sparsity, mean), (-4, 6), ha="right", **NEAR)


def _bars(axes: Axes, block: Block, panel: pd.DataFrame, numbers: Mapping[str, int]) -> None:
    metric, ceiling = str(panel["metric"].iloc[0]), _ceiling(panel)
    labels = [row.label for row in block.rows if not row.reported]
    for row, mean, std in panel[["row", "mean", "std"]].itertuples(index=False, name=None):
        y, inside = labels.index(row), mean <= ceiling
        spread = 0.0 if math.isnan(std) or not inside else std
        length = mean if inside else ceiling
        axes.barh(y, length, xerr=spread or None, height=0.7, capsize=3, **bar(numbers[row]))
        text = _number(mean) if inside else f"{_number(mean)} \N{RIGHTWARDS ARROW}"
        axes.annotate(text, (length + spread, y), (4, 0), va="center", **NEAR)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.margins(x=0.15)
    axes.set_xlabel(metric)
    if is_share(metric):
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))

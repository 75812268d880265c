"""The style of figures: curves can be told apart without colour, and the same data gives the same bytes."""

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D

from ..replacing import replacing

# Okabe & Ito (2008), dark and light in turn, so that neighbours differ in grey as well.
COLORS = ("#000000", "#E69F00", "#0072B2", "#56B4E9", "#009E73", "#CC79A7", "#D55E00", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 2, 2)))
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo", "--")
SMALL = 7.0
LINE = 0.14  # inches that a line of small text takes
CHARACTERS = 18  # of small text in an inch

BAND: Mapping[str, Any] = {"alpha": 0.15, "linewidth": 0}

SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "sparse_rnn",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.titlesize": 9,
    "axes.formatter.useoffset": False,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "hatch.linewidth": 0.6,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "figure.dpi": 100,
    "savefig.dpi": 160,
}


@dataclass(frozen=True)
class Drawing:
    """A figure, the numbers drawn in it, and notes on them, which are also written below the figure."""

    figure: Figure
    data: pd.DataFrame
    notes: tuple[str, ...]


def styled() -> AbstractContextManager[None]:
    """The project's style, whatever the user's matplotlibrc says; to be entered around all drawing."""
    return matplotlib.style.context(["default", SETTINGS])


def line(number: int) -> Mapping[str, Any]:
    """Colour, marker and dashes of the curve with this number, from 0."""
    return {
        "color": COLORS[number % len(COLORS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[number % len(DASHES)],
        "markersize": 4,
        "linewidth": 1.4,
    }


def band(axes: Axes, xs: Sequence[float], means: pd.Series, spread: pd.Series, color: str) -> None:
    """Shade what lies within `spread` of a curve; a single point, which has no width, gets a bar instead."""
    if len(xs) > 1:
        axes.fill_between(xs, means - spread, means + spread, color=color, **BAND)
    elif spread.notna().all():
        axes.errorbar(xs, means, spread, color=color, capsize=3)


def bar(number: int) -> Mapping[str, Any]:
    """Colour and hatching of the bars with this number, from 0."""
    dark = number % len(COLORS) == 0
    return {
        "facecolor": COLORS[number % len(COLORS)],
        "hatch": HATCHES[number % len(HATCHES)],
        "edgecolor": "white" if dark else "black",
        "linewidth": 0.5,
    }


def panels(rows: int, columns: int, *, width: float = 3.4, height: float | Sequence[float] = 2.6) -> tuple[Figure, Any]:
    """A figure and its axes, array [rows, columns], outside pyplot's global state.

    width, height: of a panel, in inches; height may be given for each row.
    """
    heights = [height] * rows if isinstance(height, int | float) else list(height)
    with styled():
        figure = Figure(figsize=(width * columns, sum(heights)), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False, height_ratios=heights)


def empty(axes: Axes, text: str = "no finished run") -> None:
    """Write in a panel why there is nothing to draw."""
    axes.set(xticks=[], yticks=[])
    axes.text(0.5, 0.5, text, ha="center", va="center", transform=axes.transAxes, color="0.4")


def finish(figure: Figure, title: str, source: str, notes: Iterable[str] = (), *, warning: str = "") -> None:
    """Add the title and one legend for all panels, and below them warning, source and notes.

    The figure grows by their height. A label that several panels share is in the legend once.
    """
    with styled():
        width, height = figure.get_size_inches()
        small = int(width * CHARACTERS)
        above = textwrap.fill(title, int(width * CHARACTERS * 0.75))
        warnings = textwrap.wrap(warning, int(small * 0.85))
        below = [
            text
            for note in (*([f"Source: {source}."] if source else []), *notes)
            for text in textwrap.wrap(note, small)
        ]
        top, bottom = 0.16 * above.count("\n"), LINE * (len(warnings) + len(below)) + 0.1
        handles = _labelled(figure)
        columns = max(1, min(len(handles), int(width / (0.5 + 0.062 * max(map(len, handles), default=1)))))
        legend = 0.18 * -(-len(handles) // columns) + 0.08 if handles else 0.0
        total = height + top + legend + bottom
        figure.set_size_inches(width, total)
        share = (legend + bottom) / total
        engine = figure.get_layout_engine()
        assert isinstance(engine, ConstrainedLayoutEngine)
        engine.set(w_pad=0.07, h_pad=0.05, rect=(0, share, 1, 1 - share))
        figure.suptitle(above, fontsize=9)
        if handles:
            figure.legend(
                list(handles.values()),
                list(handles),
                loc="lower center",
                ncols=columns,
                bbox_to_anchor=(0.5, bottom / total),
                borderaxespad=0.2,
                borderpad=0.2,
                labelspacing=0.4,
            ).set_in_layout(False)
        for number, text in enumerate([*warnings, *below]):
            weight = "bold" if number < len(warnings) else "normal"
            y = (bottom - 0.04 - LINE * number) / total
            figure.text(0.08 / width, y, text, va="top", fontsize=SMALL, fontweight=weight)


def _labelled(figure: Figure) -> dict[str, Any]:
    """The first artist with each label; lines without markers, which go across a panel, come last."""
    found: dict[str, Any] = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    return dict(sorted(found.items(), key=lambda each: isinstance(each[1], Line2D) and each[1].get_marker() == ""))


def save(figure: Figure, data: pd.DataFrame, path: Path) -> list[Path]:
    """Write path.png, path.svg and path.csv (the data); returns these paths. `path` itself has no ending.

    Raises ConfigError if one of them cannot be written.
    """
    png, svg, csv = (path.with_name(f"{path.name}.{ending}") for ending in ("png", "svg", "csv"))
    with styled():
        with replacing(png) as draft:
            figure.savefig(draft, format="png", metadata={"Software": None})
        with replacing(svg) as draft:
            figure.savefig(draft, format="svg", metadata={"Date": None, "Creator": None})
    with replacing(csv) as draft:
        data.to_csv(draft, index=False, float_format="%.8g")
    return [png, svg, csv]

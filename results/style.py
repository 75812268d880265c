"""How figures look: distinguishable without colour, the same bytes from the same data."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

# Okabe & Ito (2008), dark and light in turn, so that neighbours differ in grey as well.
COLORS = ("#000000", "#E69F00", "#0072B2", "#56B4E9", "#D55E00", "#009E73", "#CC79A7", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)), (0, (8, 2, 2, 2)))
HATCHES = ("", "//", "..", "xx", "\\\\", "++", "oo", "--")
SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "sparse_rnn",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.dpi": 100,
    "savefig.dpi": 160,
}


def line(number: int) -> Mapping[str, Any]:
    """Colour, marker and dashes of the curve of that number, from 0."""
    return {
        "color": COLORS[number % len(COLORS)],
        "marker": MARKERS[number % len(MARKERS)],
        "linestyle": DASHES[number % len(DASHES)],
        "markersize": 4,
        "linewidth": 1.4,
    }


def panels(rows: int, columns: int, *, width: float = 3.4, height: float = 2.6) -> tuple[Figure, Any]:
    """A figure with a grid of axes (array [rows, columns]), without any global state; sizes of a panel in inches."""
    with mpl.rc_context(SETTINGS):
        figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
        return figure, figure.subplots(rows, columns, squeeze=False)


def save(figure: Figure, data: pd.DataFrame, path: Path) -> list[Path]:
    """Write path.png, path.svg and path.csv with what is drawn; `path` has no ending. Returns what was written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    written = [path.with_name(f"{path.name}.{ending}") for ending in ("png", "svg", "csv")]
    with mpl.rc_context(SETTINGS):
        figure.savefig(written[0], metadata={"Software": None})
        figure.savefig(written[1], metadata={"Date": None, "Creator": None})
    data.to_csv(written[2], index=False, float_format="%.8g")
    return written

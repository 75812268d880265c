"""A forest plot: the difference of every setting of every claim, with its interval."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes

from sparse_rnn.core.metrics import METRICS

from ..comparisons.claims import FAILS, HOLDS, OPEN, Claim, Setting, lines
from .style import COLORS, SMALL, Drawing, finish, panels, styled

LOOK = {HOLDS: (COLORS[4], "o"), OPEN: ("0.5", "D"), FAILS: (COLORS[6], "s")}  # colour and marker of each verdict
HEADING: Mapping[str, Any] = {"fontweight": "bold", "fontsize": SMALL + 1, "annotation_clip": False}
LINE = 0.19  # inches for a setting
EXPLAINED = (
    "Left of zero, the first of the two named in a line is better; right of it, the second. "
    "Bars: 95 % intervals over seeds. A line without a bar has one seed."
)


def draw(claims: Sequence[Claim]) -> Drawing:
    """One panel for each metric; by how much the first row is worse than the second."""
    data = pd.DataFrame(lines(claims))
    found = [(claim, setting) for claim in claims for setting in claim.settings if setting.pair.worse is not None]
    judged = [(metric, [x for x in found if x[1].pair.judged == metric]) for metric in reversed(METRICS)]
    shown = {f"{'points of ' if metric.is_share else ''}{metric.words}": own for metric, own in judged if own}
    with styled():
        figure, grid = panels(
            max(1, len(shown)), 1, width=7.0, height=[_height(own) for own in shown.values()] or [1.0]
        )
        for axes, (name, own) in zip(grid[:, 0], shown.items(), strict=False):
            _panel(axes, own)
            axes.set_xlabel(f"how much worse the first is, in {name}")
        if not shown:
            grid[0, 0].set_visible(False)
        finish(figure, "What the runs say about the papers' claims", "", [EXPLAINED])
    return Drawing(figure, data, (EXPLAINED,))


def _height(own: Sequence[tuple[Claim, Setting]]) -> float:
    return LINE * (len(own) + 1.6 * len({claim.name for claim, _ in own})) + 0.6


def _panel(axes: Axes, own: Sequence[tuple[Claim, Setting]]) -> None:
    """Settings from top to bottom, those of a claim below its title."""
    y, title, places = 0.0, "", []
    for claim, setting in own:
        if claim.gathered.title != title:
            title = claim.gathered.title
            y += 1.6
            heading = axes.annotate(title, (0.01, y - 0.75), xycoords=("figure fraction", "data"), **HEADING)
            heading.set_in_layout(False)
        _line(axes, y, setting)
        pair = setting.pair
        places.append((y, f"{pair.block}: {pair.a}, {pair.b}"))
        y += 1
    axes.axvline(0, color="black", linewidth=1)
    axes.set_yticks([place for place, _ in places], [label for _, label in places], fontsize=SMALL)
    axes.set_ylim(y, -0.2)
    axes.grid(visible=False, axis="y")


def _line(axes: Axes, y: float, setting: Setting) -> None:
    worse = setting.pair.worse
    assert worse is not None
    scale = 100 if setting.pair.is_share else 1
    color, marker = LOOK[setting.verdict]
    if not math.isfinite(worse.mean):
        axes.annotate("diverged", (0, y), fontsize=SMALL, va="center")
        return
    if math.isfinite(worse.low):
        axes.plot([scale * worse.low, scale * worse.high], [y, y], color=color, linewidth=1.6, solid_capstyle="butt")
    axes.plot(scale * worse.mean, y, marker, color=color, markersize=4, label=setting.verdict)

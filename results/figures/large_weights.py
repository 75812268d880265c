"""Figure 3 of Selfish-RNN: the number of large weights during training (section 3.2)."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ..gathering import Gathered
from ..sources.logs import LoggedRun
from .panels import by_block, drawing
from .style import COLORS, DASHES, MARKERS, Drawing, band, empty
from .weight_names import input_weights, short_names

KEY = "large_weights/"
EVALUATED = f"{KEY}evaluated/"
TRIGGER = "averaging/trigger_epoch"
MARKS = 12  # on a curve


def draw(gathered: Gathered) -> Drawing:
    """How many of the evaluated weights, which are the averages once averaging has begun, exceed 0.1 in magnitude.

    There is one curve per input weight (colour, marker) and row (dashes), and a vertical line where averaging begins.
    """
    data = large_weights(gathered)
    figure, axes = by_block(gathered.spec, height=3.2)
    for block in gathered.spec.blocks:
        panel = data[data["panel"] == block.label]
        if panel.empty:
            empty(axes[block.label])
            continue
        _panel(axes[block.label], panel, {row.label: number for number, row in enumerate(block.rows)})
    begins = data.groupby("row", sort=False)["trigger"].first().dropna()
    said = ", ".join(f"{epoch:g} ({row})" for row, epoch in begins.items())
    return drawing(gathered, figure, data, [f"Averaging begins after epoch {said}."] if said else [])


def large_weights(gathered: Gathered) -> pd.DataFrame:
    """Columns panel, row, weight, epoch, evaluated, std, raw, trigger, finished: counts of weights, means over seeds.

    std: of `evaluated` over the seeds (n - 1), NaN for a single one. trigger: the epoch after which averaging began,
    NaN if it never did.
    """
    parts = [
        _counts(run).assign(panel=planned.block, row=planned.row, trigger=(run.final or {}).get(TRIGGER))
        for planned, run in gathered.finished()
    ]
    columns = ["panel", "row", "weight", "epoch", "evaluated", "std", "raw", "trigger", "finished"]
    if not parts:
        return pd.DataFrame(columns=columns)
    together = pd.concat(parts).astype({"trigger": float})
    grouped = together.groupby(["panel", "row", "weight", "epoch"], sort=False)
    means = {name: grouped[name].mean() for name in ("evaluated", "raw", "trigger")}
    return pd.DataFrame({**means, "std": grouped["evaluated"].std(), "finished": grouped["raw"].count()}).reset_index()[
        columns
    ]


def _counts(run: LoggedRun) -> pd.DataFrame:
    """Columns weight, epoch, evaluated, raw, of the input weights."""
    lines = []
    for row in run.read():
        if "valid/loss" in row:
            weights = input_weights(key.removeprefix(EVALUATED) for key in row if key.startswith(EVALUATED))
            lines += [(name, int(row["epoch"]), row[EVALUATED + name], row[f"{KEY}raw/{name}"]) for name in weights]
    return pd.DataFrame(lines, columns=["weight", "epoch", "evaluated", "raw"])


def _panel(axes: Axes, panel: pd.DataFrame, dashes: Mapping[str, int]) -> None:
    short = short_names(panel["weight"].unique())
    looks = {weight: number for number, weight in enumerate(short)}
    for (row, weight), curve in panel.groupby(["row", "weight"], sort=False):
        number = looks[str(weight)]
        axes.plot(
            curve["epoch"],
            curve["evaluated"],
            color=COLORS[number % len(COLORS)],
            marker=MARKERS[number % len(MARKERS)],
            markersize=4,
            markevery=max(1, len(curve) // MARKS),
            linestyle=DASHES[dashes[str(row)]],
            label=f"{short[str(weight)]}, {row}",
        )
        band(axes, list(curve["epoch"]), curve["evaluated"], curve["std"], COLORS[number % len(COLORS)])
    for row, trigger in panel.groupby("row", sort=False)["trigger"].first().dropna().items():
        dash = DASHES[dashes[str(row)]]
        axes.axvline(trigger, color="0.45", linewidth=1, linestyle=dash, label=f"averaging begins, {row}")
    axes.set(xlabel="epoch", ylabel="weights above 0.1 in magnitude")
    axes.set_ylim(0, 1.06 * panel["evaluated"].max() or 1)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))

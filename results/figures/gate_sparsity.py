"""The sparsity of each gate of the recurrent weights (Selfish-RNN appendix M)."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from sparse_rnn.runs.rows import SPARSITY, gates_of

from ..gathering import Gathered
from ..sources.logs import BEST, LoggedRun
from .panels import by_block, drawing
from .style import Drawing, bar, empty, finish, line, panels
from .weight_names import in_order, short_names

MODEL = "sparsity/model"
COLUMNS = 4  # panels side by side
ORDER = ("input", "forget", "cell", "output", "master_input", "master_forget", "hidden", "transform")


def final_gates(run: LoggedRun) -> pd.DataFrame:
    """Columns weight, gate, sparsity, for the weights that a finished run kept; empty if it is not finished."""
    lines = list(_gates(run.final or {}, BEST + SPARSITY))
    return pd.DataFrame(lines, columns=["weight", "gate", "sparsity"])


def gates_over_time(run: LoggedRun) -> pd.DataFrame:
    """Columns epoch, weight, gate, sparsity: after the topology update of each epoch that the run has finished."""
    lines = [(int(row["epoch"]), *gate) for row in run.read() if "valid/loss" in row for gate in _gates(row, SPARSITY)]
    return pd.DataFrame(lines, columns=["epoch", "weight", "gate", "sparsity"])


def _gates(row: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str, float]]:
    """Weight, gate and sparsity of each key `<prefix><weight>/<gate>` of a row; by layer, gates in ORDER."""
    found = gates_of(row, prefix)
    for weight in in_order(found):
        for gate in sorted(found[weight], key=place_of):
            yield weight, gate, found[weight][gate]


def place_of(gate: str) -> tuple[int, str]:
    """What gates are sorted by."""
    return (ORDER.index(gate) if gate in ORDER else len(ORDER)), gate


def draw(gathered: Gathered) -> Drawing:
    """Figure 10: one panel per block, with the gates of each weight as bars and the model's sparsity as a line."""
    data = gate_means(gathered)
    figure, axes = by_block(gathered.spec, width=4.6, height=2.3)
    numbers = _numbers(data["gate"])
    for label, each in axes.items():
        panel = data[data["panel"] == label]
        if panel.empty:
            empty(each)
        else:
            _panel(each, panel, numbers)
    return drawing(gathered, figure, data)


def gate_means(gathered: Gathered) -> pd.DataFrame:
    """Columns panel, row, weight, gate, sparsity, std, finished: means over seeds and their deviation (n - 1).

    Weight `model` is all sparse weights.
    """
    parts = []
    for planned, run in gathered.finished():
        assert run.final is not None
        whole = pd.DataFrame({"weight": ["model"], "gate": [""], "sparsity": [run.final.get(BEST + MODEL, math.nan)]})
        parts.append(pd.concat([final_gates(run), whole]).assign(panel=planned.block, row=planned.row))
    if not parts:
        return pd.DataFrame(columns=["panel", "row", "weight", "gate", "sparsity", "std", "finished"])
    grouped = pd.concat(parts).groupby(["panel", "row", "weight", "gate"], sort=False)["sparsity"]
    return grouped.agg(sparsity="mean", std="std", finished="count").reset_index()


def _panel(axes: Axes, panel: pd.DataFrame, numbers: Mapping[str, int]) -> None:
    whole, gates = panel[panel["weight"] == "model"], panel[panel["weight"] != "model"]
    groups = list(gates.groupby(["row", "weight"], sort=False))
    short, several = short_names(gates["weight"].unique()), panel["row"].nunique() > 1
    for place, (_, group) in enumerate(groups):
        width = 0.84 / len(group)
        for k, (gate, sparsity, std) in enumerate(zip(group["gate"], group["sparsity"], group["std"], strict=True)):
            x = place + (k - (len(group) - 1) / 2) * width
            spread = None if math.isnan(std) else std
            axes.bar(x, sparsity, width, yerr=spread, label=gate.replace("_", " "), **bar(numbers[gate]))
    for level in whole["sparsity"]:
        axes.axhline(level, color="black", linestyle="--", linewidth=1, label="model")
    names = [f"{row}\n{short[str(weight)]}" if several else short[str(weight)] for (row, weight), _ in groups]
    axes.set_xticks(range(len(groups)), names)
    axes.grid(visible=False, axis="x")
    axes.set(ylabel="sparsity", ylim=(0, 1))


def draw_gates_over_time(run: LoggedRun) -> Drawing:
    """One panel per recurrent weight of a run: the sparsity of its gates over the epochs."""
    data = gates_over_time(run)
    weights = data["weight"].unique()
    columns = min(COLUMNS, max(1, len(weights)))
    figure, grid = panels(math.ceil(max(1, len(weights)) / columns), columns, width=2.6, height=2.1)
    numbers, short = _numbers(data["gate"]), short_names(weights)
    limits = data["sparsity"].min(), data["sparsity"].max()
    for k, axes in enumerate(grid.flat):
        if k >= len(weights):
            axes.set_visible(False)
            continue
        for gate, own in data[data["weight"] == weights[k]].groupby("gate", sort=False):
            look = dict(line(numbers[str(gate)]))
            every = max(1, len(own) // 8)
            axes.plot(own["epoch"], own["sparsity"], label=str(gate).replace("_", " "), markevery=every, **look)
        axes.set_title(f"{short[weights[k]]}  ({weights[k]})", fontsize=7)
        axes.set_ylim(limits[0] - 0.02, limits[1] + 0.02)
        axes.set(xlabel="epoch", ylabel="sparsity")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if not len(weights):
        grid[0, 0].set_visible(True)
        empty(grid[0, 0], "no gates in the log")
    notes = (f"Run {run.run_id}; sparsity after each epoch's topology update.",)
    finish(figure, "Sparsity of the gates over training", "the run's log", notes)
    return Drawing(figure, data, notes)


def _numbers(gates: "pd.Series[str]") -> dict[str, int]:
    """The number of each gate's style."""
    return {gate: number for number, gate in enumerate(sorted((gate for gate in set(gates) if gate), key=place_of))}

"""What a study of `launch tune` found: the value of every trial, in the order of proposal, and which keys matter."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter

from sparse_rnn.config.differing import short_names
from sparse_rnn.core.metrics import is_share
from sparse_rnn.runs.studies import COMPLETE, PRUNED, Study

from .style import COLORS, Drawing, empty, finish, panels, styled

LOOK = {COMPLETE: (COLORS[2], "o"), PRUNED: (COLORS[1], "x")}
DECADE = 10.0  # values that span more are on a logarithmic scale
EXPLAINED = (
    "A pruned trial is at the value of its last epoch. Importance: the share of a key in what sets good trials apart."
)


def draw(study: Study) -> Drawing:
    """Two panels: the trials with the best value so far, and the importance of each key."""
    data = pd.DataFrame(
        [
            {"number": trial.number, "state": trial.state, "value": trial.value, "run_id": trial.run_id}
            | trial.parameters
            for trial in study.trials
        ]
    )
    with styled():
        figure, axes = panels(1, 2, width=3.6, height=2.6)
        _history(axes[0, 0], study)
        _importance(axes[0, 1], study)
        finish(figure, f"{study.name}: {study.metric.replace('/', ' ')}", "", [EXPLAINED])
    return Drawing(figure, data, (EXPLAINED,))


def _history(axes: Axes, study: Study) -> None:
    values = {state: _values(study, state) for state in LOOK}
    judged = pd.concat(values.values())
    if judged.empty:
        empty(axes, "no trial has a value yet")
        return
    for state, (color, marker) in LOOK.items():
        if len(values[state]):
            axes.plot(values[state].index, values[state], marker, color=color, label=state)
    share = is_share(study.metric)
    best = values[COMPLETE].cummax() if share else values[COMPLETE].cummin()
    if len(best):
        axes.plot(best.index, best, color="black", drawstyle="steps-post", linewidth=1, label="best so far")
    axes.set(xlabel="trial", ylabel=study.metric.replace("/", " "))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if share:
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    elif judged.max() > DECADE * judged.min():
        axes.set_yscale("log")


def _values(study: Study, state: str) -> pd.Series:
    """The values of the trials in a state, by number."""
    found = {trial.number: trial.value for trial in study.trials if trial.state == state and trial.value is not None}
    return pd.Series(found, dtype=float)


def _importance(axes: Axes, study: Study) -> None:
    if not study.importance:
        empty(axes, "too few complete trials")
        return
    names = short_names(study.importance)
    keys = sorted(study.importance, key=lambda key: study.importance[key])
    axes.barh([names[key] for key in keys], [study.importance[key] for key in keys], color=COLORS[2], height=0.6)
    axes.set(xlabel="importance", xlim=(0, 1))
    axes.grid(visible=False, axis="y")

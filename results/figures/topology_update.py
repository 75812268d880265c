"""Figure 1 of Selfish-RNN: what a method does at a topology update, drawn from what it declares, without a run."""

import inspect
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from sparse_rnn import sparsify
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.schema import Run
from sparse_rnn.core.registry import lookup
from sparse_rnn.core.wording import counted
from sparse_rnn.sparsity.groups import Group
from sparse_rnn.sparsity.rules.growth import GrowthRule, Ordered, Signal, Signals
from sparse_rnn.sparsity.step_sparsifier import StepSparsifier

from .style import SMALL, Drawing, finish, panels, styled

SOURCE = "Selfish-RNN (ICML 2021), Figure 1, computed from the configuration"
STEPS, INTERVAL = 60, 6  # of the small LSTM's training
INPUTS, HIDDEN, LENGTH = 8, 4, 5
WEIGHT = "weight_ih_l0"
KEPT, GONE, GROWN = "#595959", "#56B4E9", "#E69F00"


@dataclass(frozen=True)
class Stage:
    """A moment of an update. active, removed, grown: bool masks [rows, inputs]; removed and grown: just now."""

    title: str
    rules: str
    words: str
    active: Tensor
    removed: Tensor
    grown: Tensor


def draw_method(sparsifier: str = "selfish") -> Drawing:
    """The steps of a method as its rules describe them, on its first update of a small LSTM's input weight.

    Raises ConfigError for a method without a topology.
    """
    run = compose_run([f"sparsifier={sparsifier}"])
    made, gates = stages(run)
    data = pd.DataFrame(_counts(made, gates))
    figure, grid = panels(len(gates), len(made), width=1.75, height=0.92)
    with styled():
        for column, stage in enumerate(made):
            for row, (gate, rows) in enumerate(gates.items()):
                _matrix(grid[row, column], stage, rows)
                if column == 0:
                    grid[row, 0].set_ylabel(f"{gate}\ngate", rotation=0, ha="right", va="center", fontsize=8)
            grid[0, column].set_title(f"{column + 1}. {stage.title}", fontsize=8)
            grid[-1, column].set_xlabel(textwrap.fill(stage.words, 29), fontsize=SMALL)
    notes = (
        *_again(run),
        f"Input weight of an LSTM with {HIDDEN} units and {INPUTS} inputs, trained on random numbers.",
    )
    finish(figure, f"One topology update of sparsifier={sparsifier}", SOURCE, notes)
    return Drawing(figure, data, notes)


def stages(run: Run) -> tuple[list[Stage], dict[str, slice]]:
    """The stages until the end of the method's first update, made by running it, and the rows of each gate."""
    method = run.sparsifier
    start, before, survived, after, gates = _update(run)
    none = torch.zeros_like(start)
    rules, words = f"initial={method.initial}", _said("initial", method.initial)
    if method.structure != "unstructured":
        rules, words = f"{rules}, structure={method.structure}", f"{words} {_said('structure', method.structure)}"
    found = [Stage("Start", rules, words, start, none, none)]
    if not method.dynamic:
        return [
            *found,
            Stage("Train to the end", "removal=none", "The topology stays as it is.", start, none, none),
        ], gates
    every = "an epoch" if method.update_interval == "epoch" else counted(int(method.update_interval), "step")
    found.append(Stage(f"Train {every}", "", "Active weights learn, the others stay zero.", before, none, none))
    rules, words = f"removal={method.removal}, schedule={method.schedule}", _said("removal", method.removal)
    found.append(Stage("Remove", rules, words, survived, before & ~survived, none))
    if method.regrows:
        rules = f"redistribution={method.redistribution}, growth={run.growth.name}"
        words = f"{_said('redistribution', method.redistribution)} {_said('growth', run.growth.name)}"
        found.append(Stage("Grow", rules, words, after, none, after & ~survived))
    return found, gates


def _update(run: Run) -> tuple[Tensor, Tensor, Tensor, Tensor, dict[str, slice]]:
    """Masks of a small LSTM's input weight, and the rows of its gates.

    The masks: at the start, before the first update, after removal, after the update.
    """
    method = run.sparsifier
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = nn.LSTM(INPUTS, HIDDEN, bias=False)
        optimizer = torch.optim.SGD(model.parameters(), lr=2.0)
        sparsifier = sparsify(
            model,
            optimizer,
            sparsity=method.sparsity,
            steps=STEPS,
            method=method.name,
            removal_rate=method.removal_rate,
            update_interval=INTERVAL,
        )
        sparsifier.growth = watched = _Watched(sparsifier.growth)
        weight = sparsifier.topology[WEIGHT]
        start = weight.mask.clone()
        before = _train_to_update(model, optimizer, sparsifier)
    # What a structure switches off besides is not among them, though removal had left it.
    survived = watched.survived(before) & weight.mask if method.regrows else weight.mask
    return start, before, survived, weight.mask, dict(weight.gates)


class _Watched:
    """A growth rule that records what was inactive when it was called, and leaves growing to the rule that it wraps."""

    needs: ClassVar[frozenset[Signal]] = frozenset()  # the sparsifier has read what the wrapped rule needs

    def __init__(self, rule: GrowthRule) -> None:
        self.name, self.rule = rule.name, rule
        self.seen: list[tuple[Group, Tensor]] = []

    def __call__(
        self, group: Group, candidates: Tensor, count: int, signals: Signals, key: tuple[object, ...]
    ) -> Tensor:
        self.seen.append((group, candidates.clone()))
        return self.rule(group, candidates, count, signals, key)

    def order(self, group: Group, signals: Signals) -> Tensor:
        """What the sparsifier asks for instead where growth chooses within units."""
        self.seen.append((group, ~group.active))
        assert isinstance(self.rule, Ordered)
        return self.rule.order(group, signals)

    def survived(self, before: Tensor) -> Tensor:
        """What removal left of `before`, the input weight's mask before the update."""
        masks = {
            block.weight.name: torch.ones_like(block.weight.mask) for group, _ in self.seen for block in group.blocks
        }
        for group, candidates in self.seen:
            group.scatter(~candidates, masks)
        return masks[WEIGHT] & before


def _train_to_update(model: nn.LSTM, optimizer: torch.optim.Optimizer, sparsifier: StepSparsifier) -> Tensor:
    """Train until an update has removed something, or to the end; returns the mask before it."""
    before = sparsifier.topology[WEIGHT].mask.clone()
    for _ in range(STEPS):
        before = sparsifier.topology[WEIGHT].mask.clone()
        given, wanted = torch.randn(LENGTH, 3, INPUTS), torch.rand(LENGTH, 3, HIDDEN)
        optimizer.zero_grad()
        (model(given)[0] - wanted).square().mean().backward()
        sparsifier.before_step()
        optimizer.step()
        report = sparsifier.after_step()
        if report is not None and report.removed:
            break
    return before


def _said(group: str, name: str) -> str:
    """The first paragraph of a rule's docstring."""
    return " ".join((inspect.getdoc(lookup(group, name)) or name).split("\n\n")[0].replace("`", "").split())


def _again(run: Run) -> Iterator[str]:
    method = run.sparsifier
    if method.dynamic:
        rate = f"{method.removal_rate:g} of the active weights at first"
        if method.prunes:
            rate = "what the schedule asks"
        elif not lookup("removal", method.removal).exact:
            rate = "what the rule for removal finds"
        yield f"Steps 2 to {4 if method.regrows else 3} are repeated to the end of training; an update removes {rate}."
        yield f"schedule={method.schedule}: {_said('schedule', method.schedule)}"


def _counts(made: Sequence[Stage], gates: dict[str, slice]) -> Iterator[dict[str, Any]]:
    for stage in made:
        for gate, rows in gates.items():
            kinds = ("active", "removed", "grown")
            counts = {kind: int(getattr(stage, kind)[rows].count_nonzero()) for kind in kinds}
            yield {"stage": stage.title, "rules": stage.rules, "words": stage.words, "gate": gate, **counts}


def _matrix(axes: Axes, stage: Stage, rows: slice) -> None:
    """Draw the weights of one gate: inactive ones as outlines, removed ones as crosses, grown ones as discs."""
    shape = stage.active[rows].shape
    axes.set(xticks=[], yticks=[], xlim=(-0.7, shape[1] - 0.3), ylim=(shape[0] - 0.4, -0.6), aspect="equal")
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
    kinds = {
        "inactive": (~stage.active, {"marker": "s", "facecolor": "white", "edgecolor": "0.75", "linewidth": 0.6}),
        "active": (stage.active & ~stage.grown, {"marker": "s", "facecolor": KEPT}),
        "removed": (stage.removed, {"marker": "X", "facecolor": GONE, "edgecolor": "black", "linewidth": 0.6}),
        "grown": (stage.grown, {"marker": "o", "facecolor": GROWN, "edgecolor": "black", "linewidth": 0.6}),
    }
    for label, (mask, look) in kinds.items():
        y, x = mask[rows].nonzero(as_tuple=True)
        if len(x):
            axes.scatter(x.numpy(), y.numpy(), s=42, label=label, **look)  # type: ignore[arg-type]
    axes.text(
        1.02, 0.5, str(int(stage.active[rows].count_nonzero())), transform=axes.transAxes, va="center", fontsize=8
    )

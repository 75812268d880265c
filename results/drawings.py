"""Figures 1 and 2 of Selfish-RNN, drawn from what the methods declare: no run is needed."""

import inspect
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pandas as pd
import torch
from matplotlib.axes import Axes
from torch import Tensor, nn

from results.style import SMALL, Drawing, finish, line, panels, styled
from sparse_rnn.any_module import StepSparsifier, sparsify
from sparse_rnn.build import make_topology
from sparse_rnn.config import Run, compose_run
from sparse_rnn.flops import run_flops
from sparse_rnn.registry import lookup
from sparse_rnn.sparsity.group import Group
from sparse_rnn.sparsity.growth import GrowthRule, Signal, Signals
from sparse_rnn.sparsity.sparsifier import make_schedule

SOURCE = "Selfish-RNN (ICML 2021), Figure {}, computed from the configuration"
STEPS, INTERVAL = 60, 6  # of the small LSTM
INPUTS, HIDDEN, LENGTH = 8, 4, 5
WEIGHT = "weight_ih_l0"
POINTS = 200  # on a curve of costs
KEPT, GONE, GROWN = "#595959", "#56B4E9", "#E69F00"


@dataclass(frozen=True)
class Stage:
    """A moment of an update: the masks [rows, inputs] of what is active, just removed and just grown, and the words."""

    title: str
    rules: str
    words: str
    active: Tensor
    removed: Tensor
    grown: Tensor


def draw_method(sparsifier: str = "selfish") -> Drawing:
    """A method's loop: its rules in their own words, and its first update of a small LSTM's input weight.

    Raises ConfigError for a method that has no topology.
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
    finish(figure, f"One topology update of sparsifier={sparsifier}", SOURCE.format(1), notes)
    return Drawing(figure, data, notes)


def stages(run: Run) -> tuple[list[Stage], dict[str, slice]]:
    """The stages up to the end of the method's first update, by the method itself, and the rows of each gate."""
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
        watched = _Watched(sparsifier.growth)
        sparsifier.growth = watched
        topology = sparsifier.topology
        first = topology[WEIGHT].mask.clone()
        before = _train_to_update(model, optimizer, sparsifier)
        after = topology[WEIGHT].mask.clone()
    survived = watched.survived(before, topology[WEIGHT].name) if method.dynamic and not method.prunes else after
    none = torch.zeros_like(first)
    every = "an epoch" if method.update_interval == "epoch" else f"{method.update_interval} steps"
    initial = (f"initial={method.initial}", _said("initial", method.initial))
    found = [Stage("Start", *initial, first, none, none)]
    if not method.dynamic:
        found.append(Stage("Train to the end", "removal=none", "The topology stays as it is.", first, none, none))
        return found, dict(topology[WEIGHT].gates)
    found.append(Stage(f"Train {every}", "", "Active weights learn, the others stay zero.", before, none, none))
    removal = (f"removal={method.removal}, schedule={method.schedule}", _said("removal", method.removal))
    found.append(Stage("Remove", *removal, survived, before & ~survived, none))
    if not method.prunes:
        rules = f"redistribution={method.redistribution}, growth={run.growth.name}"
        words = f"{_said('redistribution', method.redistribution)} {_said('growth', run.growth.name)}"
        found.append(Stage("Grow", rules, words, after, none, after & ~survived))
    return found, dict(topology[WEIGHT].gates)


class _Watched:
    """A growth rule that remembers what was inactive when it was asked."""

    needs: ClassVar[frozenset[Signal]] = frozenset()  # the sparsifier knows what the rule behind it needs

    def __init__(self, rule: GrowthRule) -> None:
        self.name, self.rule = rule.name, rule
        self.seen: list[tuple[Group, Tensor]] = []

    def __call__(
        self, group: Group, candidates: Tensor, count: int, signals: Signals, key: tuple[object, ...]
    ) -> Tensor:
        self.seen.append((group, candidates.clone()))
        return self.rule(group, candidates, count, signals, key)

    def survived(self, before: Tensor, name: str) -> Tensor:
        """What removal left of a weight's mask."""
        masks = {
            block.weight.name: torch.ones_like(block.weight.mask) for group, _ in self.seen for block in group.blocks
        }
        for group, candidates in self.seen:
            group.scatter(~candidates, masks)
        return masks[name] & before


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
    """The first paragraph of what a rule says of itself."""
    return " ".join((inspect.getdoc(lookup(group, name)) or name).split("\n\n")[0].replace("`", "").split())


def _again(run: Run) -> Iterator[str]:
    method = run.sparsifier
    if method.dynamic:
        rate = (
            f"{method.removal_rate:g} of the active weights at first" if not method.prunes else "what the schedule asks"
        )
        yield f"Steps 2 to {3 if method.prunes else 4} are repeated to the end of training; an update removes {rate}."
        yield f"schedule={method.schedule}: {_said('schedule', method.schedule)}"


def _counts(made: Sequence[Stage], gates: dict[str, slice]) -> Iterator[dict[str, Any]]:
    for stage in made:
        for gate, rows in gates.items():
            kinds = ("active", "removed", "grown")
            counts = {kind: int(getattr(stage, kind)[rows].count_nonzero()) for kind in kinds}
            yield {"stage": stage.title, "rules": stage.rules, "words": stage.words, "gate": gate, **counts}


def _matrix(axes: Axes, stage: Stage, rows: slice) -> None:
    """The weights of one gate: inactive ones outlined, removed ones crossed, grown ones as discs."""
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


def draw_costs() -> Drawing:
    """Active weights and cost of training over time: dense, pruned and trained again, pruned meanwhile, sparse."""
    data = costs()
    figure, axes = panels(1, 2)
    with styled():
        for number, (method, curve) in enumerate(data.groupby("method", sort=False)):
            look = dict(line(number), label=str(method), markevery=POINTS // 8)
            axes[0, 0].plot(curve["time"], curve["density"], **look)
            axes[0, 1].plot(curve["time"], curve["cost"], **look)
        axes[0, 0].set(title="Size", ylabel="active share of the weights", ylim=(0, 1.05))
        axes[0, 1].set(title="Cost", ylabel="FLOPs so far / dense training", ylim=(0, None))
        for each in axes[0]:
            each.set_xlabel("time (1: the epochs of one training)")
    run = compose_run(["sparsifier=selfish"])
    what = f"{run.model.name}, {run.dataset.name}, sparsity {run.sparsifier.sparsity:g}, {run.training.epochs} epochs"
    notes = (
        f"Computed for {what}; floating-point operations as the paper counts them.",
        "Every further cycle of pruning and re-training takes as long again.",
    )
    finish(figure, "Cost of dense-to-sparse and of sparse training", SOURCE.format(2), notes)
    return Drawing(figure, data, notes)


def costs() -> pd.DataFrame:
    """Columns method, time, density, cost. time: 1 is one training; cost: FLOPs until then, 1 is a dense training."""
    sparse, gradual = compose_run(["sparsifier=selfish"]), compose_run(["sparsifier=gmp"])
    final, half = 1.0 - sparse.sparsifier.sparsity, POINTS // 2
    schedule = make_schedule(gradual.sparsifier)
    methods = {
        "Dense": [1.0] * half,
        "Pruning and re-training": [1.0] * half + [final] * half,
        "Gradual pruning (GMP)": [1.0 - schedule.rate((k + 0.5) / half) for k in range(half)],
        "Selfish-RNN": [final] * half,
    }
    with torch.device("meta"):
        names = [weight.name for weight in make_topology(sparse, sparse.model.build(*sparse.dataset.sizes()))]
    rates = {
        density: run_flops(sparse, dict.fromkeys(names, density)).train_ratio
        for density in {each for densities in methods.values() for each in densities}
    }
    parts = []
    for method, densities in methods.items():
        spent = pd.Series([rates[density] / half for density in densities]).cumsum()
        time = [(k + 1) / half for k in range(len(densities))]
        parts.append(pd.DataFrame({"method": method, "time": time, "density": densities, "cost": spent}))
    return pd.concat(parts, ignore_index=True)

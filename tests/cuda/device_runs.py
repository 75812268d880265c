"""Tiny runs on a GPU and on the CPU, in this process."""

import json
from dataclasses import fields
from functools import cache
from pathlib import Path

import pytest
from omegaconf import MISSING

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id
from sparse_rnn.core.conf import config_dir
from sparse_rnn.core.registry import lookup
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.training import session
from sparse_rnn.training.trainer import Trainer

DEVICE = "cuda"
MODELS = ("stacked_lstm", "rhn", "on_lstm", "awd_lstm_mos", "lstm_classifier")
LANGUAGE_MODELS = MODELS[:-1]
METHODS = sorted(path.stem for path in (config_dir() / "sparsifier").glob("*.yaml"))
STRUCTURED = ("stacked_lstm", "rhn")
NO_LIMIT = "checkpoint.every_minutes=1000"
TEXT = ["dataset=pydoc", "budget.train_tokens=324", "budget.eval_tokens=60", "training.test_batch=2"]  # 64 steps
LABELLED = ["dataset=pydoc_topics", "training.batch=8"]
FIXED = ["training.bptt=5", "training.variable_bptt=false", "training.max_bptt=null"]


def overrides_of(model, method="selfish", optimizer=None, *more):
    """A run at budget=smoke, with settings of our own where the model and the optimizer have no recipe."""
    classifies = lookup("model", model).task == "text_classification"
    optimizer = optimizer or ("adam" if classifies else "snt_asgd")
    given = [f"model={model}", f"sparsifier={method}", f"optimizer={optimizer}", "budget=smoke"]
    given += LABELLED if classifies else TEXT
    if not any(each.startswith("training.") for each in more):
        given += [] if classifies else FIXED
    if not (config_dir() / "recipe" / f"{model}_{optimizer}.yaml").exists():
        rate = 0.5 if lookup("optimizer", optimizer).lr == MISSING else 0.01  # adaptive ones have one of their own
        given += ["recipe=none", f"optimizer.lr={rate}", "sparsifier.removal_rate=0.5"]
        given += ["sparsifier.sparsity=0.6"] if method not in ("dense", "iss") else []
    return [*given, "logger=files", "sparsifier.backend=masked", "threads=1", NO_LIMIT, *more]


def without_dropout(model):
    """Overrides that switch a model's dropouts off."""
    return [f"model.{f.name}=0" for f in fields(lookup("model", model)) if f.name.startswith("drop")]


def comparable(model, optimizer=None):
    """Overrides for runs whose losses are compared: no dropout and, with a recipe of averaged SGD, a low learning rate.

    At the recipes' rates of 15 to 40, what one rounding changes in a loss grows a thousandfold within 60 steps.
    """
    high = model in LANGUAGE_MODELS and optimizer in (None, "snt_asgd")
    return [*without_dropout(model), *(["optimizer.lr=5"] if high else [])]


@cache
def _composed(overrides):
    return compose_run(overrides)


def composed(overrides):
    """The configuration of these overrides."""
    return _composed(tuple(overrides))


class StoppedAt(Trainer):
    """Stops after a number of steps, as if a signal had come then."""

    steps: int

    def stop_if_requested(self):
        self.stop_requested = self.state.step == self.steps
        super().stop_if_requested()


class Runs:
    """Trains runs, each into a folder of its own, and stops them."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root, self.patch, self.made = root, monkeypatch, 0

    def __call__(self, overrides, device=DEVICE, into=None, trainer=Trainer):
        """Train to the end in this process; returns the run's folder. `into`: a folder of runs that are resumed."""
        self.made += 1
        place = self.root / (into or f"runs{self.made}")
        overrides = [*overrides, f"device={device}"]
        self.patch.setenv("SPARSE_RNN_RUNS", str(place))
        with self.patch.context() as patch:
            patch.setattr(session, "Trainer", trainer)
            session.train(composed(overrides), overrides)
        return RunFolder(place / run_id(composed(overrides)))

    def stopped(self, overrides, steps, into, device=DEVICE):
        """Train for so many steps, and save."""
        with pytest.raises(SystemExit):
            self(overrides, device, into, type("Stopped", (StoppedAt,), {"steps": steps}))


def rows_of(folder):
    """metrics.jsonl without what depends on the clock."""
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith(("throughput/", "clock/"))} for row in rows]


def losses_of(folder):
    """The training loss of every step, in nats; the run has logger.every=1."""
    losses = {row["step"]: row["train/loss_recent"] for row in rows_of(folder) if "train/loss_recent" in row}
    assert list(losses) == list(range(1, len(losses) + 1))
    return list(losses.values())


def record_of(folder):
    """The record."""
    return json.loads(folder.record.read_text())


def worst_difference(ours, theirs):
    """The largest relative difference of two curves, and the step that it is at (from 1)."""
    assert len(ours) == len(theirs) > 0
    differences = [abs(a - b) / max(abs(b), 1e-12) for a, b in zip(ours, theirs, strict=True)]
    worst = max(differences)
    return worst, 1 + differences.index(worst)

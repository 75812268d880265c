"""Invariants over model x method x optimizer at budget=smoke, each model on its own task, through the real trainer."""

import functools
import itertools
import json
import math
from pathlib import Path

import pytest
import torch
from omegaconf import MISSING

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import as_dict
from sparse_rnn.core.conf import config_dir
from sparse_rnn.core.registry import choices, lookup
from sparse_rnn.models.recurrent import RecurrentClassifierConfig, RecurrentLMConfig
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.runs.record import digest
from sparse_rnn.sparsity.method import final_counts
from sparse_rnn.sparsity.optimizer_state import tensors_like
from sparse_rnn.training.loggers.base import Loggers
from sparse_rnn.training.loggers.terminal import Terminal
from sparse_rnn.training.state import Stopped
from sparse_rnn.training.trainer import Trainer

MODELS = ("stacked_lstm", "rhn", "on_lstm", "awd_lstm_mos", "lstm_classifier", "recurrent")
RECURRENT = (RecurrentLMConfig, RecurrentClassifierConfig)  # which share all but a layer: one stands for the others
NETWORKS = sorted(
    (name for name in choices("model") if issubclass(lookup("model", name), RECURRENT)),
    key=lambda name: (lookup("model", name).task, name),
)
METHODS = sorted({path.stem for path in (config_dir() / "sparsifier").glob("*.yaml")} - {"imp"})  # test_lottery.py
OPTIMIZERS = sorted(path.stem for path in (config_dir() / "optimizer").glob("*.yaml"))
EMBEDDED = {"language_modelling": "pydoc", "text_classification": "pydoc_topics"}
STRUCTURED = ("stacked_lstm", "rhn")
STATIC = ("static_er", "static_uniform", "snip", "grasp", "synflow")
MASKED = ("slstm", "slstm_classifier")  # networks that the kernels do not know
# The methods of the papers meet everything; the others, which are made of the same parts, one model and optimizer here.
OF_PAPERS = ("dense", "dsr", "gmp", "iss", "rigl", "selfish", "set", "snfs", "st_rnn", "static_er", "static_uniform")


def combinations():
    """The full product; combinations outside of a pairwise covering set are marked `full`.

    In the covering set every model meets every method of the papers and, as there are more methods than optimizers,
    every optimizer. The optimizers shift along the models, which begin anew where there are more optimizers, so that
    every such method meets every optimizer too. In place of `recurrent`, every method has another network of that kind.
    What the sparse backend can compute is tested with both backends. Of the other methods, every second is tested with
    the sparse backend, if that is possible, and the others with masks.
    """
    methods = [method for method in METHODS if method != "iss"]  # which is for no network of that kind
    turns = range(max(len(MODELS), len(OPTIMIZERS)))
    pairs = {
        (i, (i + k) % len(OPTIMIZERS), k % len(MODELS))
        for i, method in enumerate(METHODS)
        for k in (turns if method in OF_PAPERS else (i,))
    }
    for (i, method), (j, optimizer), (k, model) in itertools.product(*map(enumerate, (METHODS, OPTIMIZERS, MODELS))):
        if method == "iss" and model not in STRUCTURED:
            continue
        if model == "recurrent":
            further = (j - i - k) % len(OPTIMIZERS)  # 0 in the covering set
            model = NETWORKS[(methods.index(method) + further) % len(NETWORKS)]
        covering = (i, j, k) in pairs
        possible = (
            method not in ("dense", "iss") and model not in MASKED and (optimizer != "nt_asgd" or method in STATIC)
        )
        on_kernels = covering and possible and optimizer != "sgd"  # which has no state
        once = method not in OF_PAPERS and on_kernels and i % 2
        marks = () if covering and not once else (pytest.mark.full,)
        yield pytest.param(model, method, optimizer, "masked", marks=marks, id=f"{model}-{method}-{optimizer}")
        if on_kernels and (once or method in OF_PAPERS):
            yield pytest.param(model, method, optimizer, "sparse", id=f"{model}-{method}-{optimizer}-sparse")


def composed(model, method, optimizer, *more):
    """The run, with settings of our own where the model and the optimizer have no recipe."""
    dataset = EMBEDDED[lookup("model", model).task]
    overrides = [f"model={model}", f"sparsifier={method}", f"optimizer={optimizer}", f"dataset={dataset}"]
    if not (config_dir() / "recipe" / f"{model}_{optimizer}.yaml").exists():
        rate = 0.5 if lookup("optimizer", optimizer).lr == MISSING else 0.01  # adaptive ones have one of their own
        overrides += ["recipe=none", f"optimizer.lr={rate}", "sparsifier.removal_rate=0.5"]
        overrides += ["sparsifier.sparsity=0.6"] if method not in ("dense", "iss") else []
    if (model, method) == ("lstm_classifier", "srigl"):  # at its recipe's sparsity, rows this short would be empty
        overrides += ["sparsifier.sparsity=0.6"]
    return compose_run([*overrides, "budget=smoke", *more])


@functools.cache
def data(dataset):
    """An embedded data set at the size of budget=smoke."""
    [model] = [name for name in ("stacked_lstm", "lstm_classifier") if EMBEDDED[lookup("model", name).task] == dataset]
    run = compose_run([f"model={model}", "optimizer=adam", f"dataset={dataset}", "budget=smoke"])
    return run.dataset.load().limited(run.budget.train_tokens, run.budget.eval_tokens)


class CheckedTrainer(Trainer):
    """Checks the invariants after every step and every update; stops before step `stop_at`."""

    stop_at = -1

    def train_step(self, batch):
        super().train_step(batch)
        for weight in self.topology:
            for key, tensor in self.stored(weight).items():
                if self.backend.name == "sparse":
                    assert tensor.shape == (weight.active,), f"{key} of {weight.name} has other than active entries"
                else:
                    assert not tensor[~weight.mask].count_nonzero(), f"{key} of {weight.name} where inactive"
        self.stop_requested = self.state.step == self.stop_at

    def stored(self, weight):
        """All tensors with one value per entry of a weight: itself, its optimizer state, its averages."""
        tensors = {"value": weight.parameter, **tensors_like(self.optimizer, weight.parameter)}
        if isinstance(self.optimizer, AveragedSGD) and self.optimizer.sparse and self.optimizer._averages:
            tensors["total"] = self.optimizer._averages[self.optimizer._index_of(weight.parameter)].total
        return tensors

    def log_step(self, report):
        super().log_step(report)
        self.check_count(report)

    def log_epoch(self, valid, report):
        super().log_epoch(valid, report)
        self.check_count(report)

    def check_count(self, report):
        method = self.run.sparsifier
        warming = method.warms_up and not self.sparsifier.at_target
        if report is not None and not method.prunes and report.grown:
            assert report.removed == report.grown
        if not method.prunes and method.masked and method.name != "iss" and not warming:
            assert self.topology.active == sum(final_counts(method, self.topology).values())
            if method.structure == "unstructured" and not method.groups:
                assert self.topology.active == round(self.topology.size * (1 - method.sparsity))


def train(run, folder: Path, stop_at: int = -1) -> tuple[str, dict]:
    """Train to the end, stopped before step `stop_at` and resumed; the digest and the results."""
    folder.mkdir(exist_ok=True)
    trainer = CheckedTrainer(run, data(run.dataset.name), RunFolder(folder), torch.device("cpu"))
    trainer.stop_at = stop_at
    terminal = Terminal(run.training.epochs, True, run.budget.name)
    try:
        results = trainer.fit(Loggers([trainer.rows, terminal]), terminal)
    except Stopped:
        trainer.rows.finish(0)
        return train(run, folder)
    trainer.rows.finish(0)
    return digest(as_dict(run), trainer.folder.metrics, trainer.model, trainer.topology), results


@pytest.mark.parametrize(("model", "method", "optimizer", "backend"), list(combinations()))
def test_invariants_hold_and_resume_is_exact(model, method, optimizer, backend, tmp_path):
    run = composed(model, method, optimizer, f"sparsifier.backend={backend}")
    whole, results = train(run, tmp_path / "whole")
    with (tmp_path / "whole" / "metrics.jsonl").open() as rows:
        steps = max(json.loads(row)["step"] for row in rows)
    stop_at = 1 + sum(map(ord, model + method + optimizer)) % (steps - 1)
    resumed, again = train(run, tmp_path / "resumed", stop_at)
    assert resumed == whole, f"resuming after step {stop_at} changed the result"
    assert results == again
    assert math.isfinite(results["test/loss"])
    if run.model.task == "language_modelling":
        assert results["valid/perplexity"] < data(run.dataset.name).sizes[0]


FURTHER = {
    "n_m": "sparsifier=set sparsifier.structure=n_m sparsifier.n=2 sparsifier.m=4 sparsifier.dense_steps=20",
    "block": "sparsifier=selfish sparsifier.structure=block sparsifier.block=[4,2]",
    "groups": "sparsifier=rigl sparsifier.groups={*recurrent*:{sparsity:0.8}} growth.minibatches=4",
}


@pytest.mark.parametrize(
    ("further", "optimizer", "stop_at", "backend"),
    [
        ("n_m", "snt_asgd", 11, "masked"),
        ("n_m", "snt_asgd", 11, "sparse"),
        ("block", "adamw", 37, "sparse"),
        ("groups", "adam", 37, "masked"),
    ],
)
def test_further_settings_keep_the_invariants_and_resume(further, optimizer, stop_at, backend, tmp_path):
    """Structures, warm-up, settings of single weights, summed gradients and moving averages."""
    more = ["optimizer.ema=0.9"] if optimizer != "snt_asgd" else []
    run = composed("rhn", "set", optimizer, *FURTHER[further].split(), f"sparsifier.backend={backend}", *more)
    assert train(run, tmp_path / "resumed", stop_at) == train(run, tmp_path / "whole")


@pytest.mark.parametrize("backend", ["masked", "sparse"])
def test_gmp_ends_at_the_sparsity_asked_for_and_keeps_no_denser_network(backend, tmp_path):
    run = compose_run(["sparsifier=gmp", f"sparsifier.backend={backend}", "dataset=pydoc", "budget=smoke"])
    trainer = CheckedTrainer(run, data("pydoc"), RunFolder(tmp_path), torch.device("cpu"))
    terminal = Terminal(run.training.epochs, True, run.budget.name)
    results = trainer.fit(Loggers([trainer.rows]), terminal)
    assert trainer.topology.active == round(trainer.topology.size * (1 - run.sparsifier.sparsity))
    assert results["best_epoch"] == run.training.epochs

"""Invariants over model x method x optimizer at budget=smoke, through the real trainer."""

import functools
import itertools
from pathlib import Path

import pytest
import torch

from sparse_rnn.config import CONFIG_DIR, as_dict, compose_run
from sparse_rnn.loggers import Loggers, Terminal
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.record import RunFolder, digest
from sparse_rnn.sparsity.optimizer_state import tensors_like
from sparse_rnn.trainer import Stopped, Trainer

MODELS = ("stacked_lstm", "rhn")
METHODS = sorted(path.stem for path in (CONFIG_DIR / "sparsifier").glob("*.yaml"))
OPTIMIZERS = sorted(path.stem for path in (CONFIG_DIR / "optimizer").glob("*.yaml"))
STEPS = 60


def combinations():
    """The full product; what is not in the pairwise covering set is marked `full`.

    Methods x optimizers is the largest pair of factors: each of its pairs is covered once, the models alternating
    along both, so that every model meets every method and every optimizer.
    """
    for (i, method), (j, optimizer), (k, model) in itertools.product(*map(enumerate, (METHODS, OPTIMIZERS, MODELS))):
        marks = () if (i + j) % len(MODELS) == k else (pytest.mark.full,)
        yield pytest.param(model, method, optimizer, marks=marks, id=f"{model}-{method}-{optimizer}")


@functools.cache
def corpus():
    """The embedded corpus at the size of budget=smoke."""
    run = compose_run(["dataset=pydoc", "budget=smoke"])
    return run.dataset.load().limited(run.budget.train_tokens, run.budget.eval_tokens)


class CheckedTrainer(Trainer):
    """Checks the invariants after every step and every update; stops before step `stop_at`."""

    stop_at = -1

    def train_step(self, batch):
        super().train_step(batch)
        for weight in self.topology:
            assert not weight.parameter[~weight.mask].count_nonzero(), f"{weight.name} moved where inactive"
            for key, tensor in tensors_like(self.optimizer, weight.parameter).items():
                assert not tensor[~weight.mask].count_nonzero(), f"{key} of {weight.name} where inactive"
        if isinstance(self.optimizer, AveragedSGD) and self.optimizer.sparse:
            for parameter, average in zip(self.optimizer.parameters, self.optimizer._averages, strict=False):
                for weight in self.topology:
                    if weight.parameter is parameter:
                        assert not average.total[~weight.mask].count_nonzero()
        self.stop_requested = self.state.step == self.stop_at

    def log_step(self, report):
        super().log_step(report)
        self.check_count(report)

    def log_epoch(self, valid, report):
        super().log_epoch(valid, report)
        self.check_count(report)

    def check_count(self, report):
        method = self.run.sparsifier
        if report is not None and not method.prunes:
            assert report.removed == report.grown
        if not method.prunes and method.masked:
            assert self.topology.active == round(self.topology.size * (1 - method.sparsity))


def train(run, folder: Path, stop_at: int = -1) -> tuple[str, dict]:
    """Train to the end, stopping and beginning anew before `stop_at`; the digest and the results."""
    folder.mkdir(exist_ok=True)
    trainer = CheckedTrainer(run, corpus(), RunFolder(folder), torch.device("cpu"))
    trainer.stop_at = stop_at
    terminal = Terminal(run.training.epochs, True, run.budget.name)
    try:
        results = trainer.fit(Loggers([trainer.rows, terminal]), terminal)
    except Stopped:
        trainer.rows.finish(0)
        return train(run, folder)
    trainer.rows.finish(0)
    return digest(as_dict(run), trainer.folder.metrics, trainer.model, trainer.topology), results


@pytest.mark.parametrize(("model", "method", "optimizer"), list(combinations()))
def test_invariants_hold_and_resume_is_exact(model, method, optimizer, tmp_path):
    run = compose_run(
        [f"model={model}", f"sparsifier={method}", f"optimizer={optimizer}", "dataset=pydoc", "budget=smoke"]
    )
    whole, results = train(run, tmp_path / "whole")
    stop_at = 1 + sum(map(ord, model + method + optimizer)) % (STEPS - 1)
    resumed, again = train(run, tmp_path / "resumed", stop_at)
    assert resumed == whole, f"resuming after step {stop_at} changed the result"
    assert results == again
    assert results["valid/perplexity"] < len(corpus().vocabulary)


def test_gmp_ends_at_the_sparsity_asked_for_and_keeps_no_denser_network(tmp_path):
    run = compose_run(["sparsifier=gmp", "dataset=pydoc", "budget=smoke"])
    trainer = CheckedTrainer(run, corpus(), RunFolder(tmp_path), torch.device("cpu"))
    terminal = Terminal(run.training.epochs, True, run.budget.name)
    results = trainer.fit(Loggers([trainer.rows]), terminal)
    assert trainer.topology.active == round(trainer.topology.size * (1 - run.sparsifier.sparsity))
    assert results["best_epoch"] == run.training.epochs

"""A GPU computes what the CPU does: losses of 60 steps, and exact counts of active weights."""

import pytest
from device_runs import METHODS, MODELS, STRUCTURED, comparable, losses_of, overrides_of, record_of, worst_difference

from sparse_rnn.training.trainer import Trainer

COMBINATIONS = [(model, method) for model in MODELS for method in METHODS if method != "iss" or model in STRUCTURED]
OPTIMIZERS = ("sgd", "nt_asgd", "adam", "adamw", "momentum_sgd")
RELATIVE = 1e-4


class Counting(Trainer):
    """Asserts after every update that exactly as many weights are active as the method asks for."""

    def log_step(self, report):
        super().log_step(report)
        self.check(report)

    def log_epoch(self, valid, report):
        super().log_epoch(valid, report)
        self.check(report)

    def check(self, report):
        method = self.run.sparsifier
        if report is not None and method.name != "iss":
            assert report.active == sum(int(weight.mask.count_nonzero()) for weight in self.topology)
            if not method.prunes:
                assert report.removed == report.grown
                assert report.active == round(self.topology.size * (1 - method.sparsity))


def compare(runs, overrides):
    """Train on both devices; both have the same losses, and as many active weights in the end."""
    device, cpu = runs(overrides, trainer=Counting), runs(overrides, "cpu", trainer=Counting)
    worst, step = worst_difference(losses_of(device)[:60], losses_of(cpu)[:60])
    assert worst <= RELATIVE, f"the loss of step {step} differs by {worst:.1e}"
    if overrides[1] != "sparsifier=iss":  # whose size is an outcome
        assert record_of(device)["active_parameters"] == record_of(cpu)["active_parameters"]


@pytest.mark.parametrize(("model", "method"), COMBINATIONS)
def test_losses_are_the_cpu_s(runs, model, method):
    more = ["sparsifier.update_interval=20"] if method == "rigl" else []
    compare(runs, overrides_of(model, method, None, *comparable(model), "logger.every=1", *more))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_losses_are_the_cpu_s_with_every_optimizer(runs, optimizer):
    compare(runs, overrides_of("rhn", "set", optimizer, *comparable("rhn", optimizer), "logger.every=1"))


def test_losses_are_the_cpu_s_under_the_official_protocol(runs):
    more = ["protocol=official_code", "logger.every=1"]
    compare(runs, overrides_of("stacked_lstm", "selfish", "snt_asgd", *comparable("stacked_lstm"), *more))

"""Triton kernels train like torch's own operations, up to rounding."""

import pytest
from device_runs import MODELS, comparable, losses_of, overrides_of, worst_difference

RELATIVE = 1e-4
OPTIMIZERS = ("snt_asgd", "nt_asgd", "sgd", "adam", "adamw", "momentum_sgd")


def compare(runs, model, method, optimizer, *more):
    """Losses of 60 steps with and without Triton kernels."""
    common = overrides_of(model, method, optimizer, *comparable(model, optimizer), "logger.every=1", *more)
    fused, plain = (losses_of(runs([*common, f"training.fused={switch}"])) for switch in ("on", "off"))
    worst, step = worst_difference(fused[:60], plain[:60])
    assert worst <= RELATIVE, f"the loss of step {step} differs by {worst:.1e}"


@pytest.mark.parametrize("model", MODELS)
def test_every_model(runs, model):
    compare(runs, model, "selfish", None)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(runs, optimizer):
    compare(runs, "stacked_lstm", "set", optimizer)


def test_the_official_protocol(runs):
    compare(runs, "stacked_lstm", "selfish", "snt_asgd", "protocol=official_code")


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("model", MODELS)
def test_every_precision_trains(runs, model, precision):
    more = ["logger.every=1", f"precision={precision}", "training.fused=on"]
    losses = losses_of(runs(overrides_of(model, "selfish", None, *more)))
    assert sum(losses[-5:]) < sum(losses[:5])

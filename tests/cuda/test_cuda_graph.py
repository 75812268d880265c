"""A captured step computes what the step computes that was captured: bit for bit with the same kernels.

It reads the learning rate as a float32 number from the device, so a rate that float32 rounds costs the last bits.
"""

import pytest
import torch
from device_runs import LANGUAGE_MODELS, MODELS, losses_of, overrides_of, record_of, rows_of, worst_difference

OPTIMIZERS = ("sgd", "nt_asgd", "adam", "adamw", "momentum_sgd")
FIXED = ["training.bptt=5"]
VARIABLE = ["training.bptt=5", "training.variable_bptt=true", "training.max_bptt=9"]
EVERY_20 = "sparsifier.update_interval=20"


def trained(runs, model, method, optimizer, *more, fused="off"):
    """The folders of the same run with and without a captured step, and with dropout."""
    own = [] if model == "lstm_classifier" or any(each.startswith("training.bptt") for each in more) else FIXED
    common = overrides_of(model, method, optimizer, "deterministic=true", "logger.every=1", *own, *more)
    graphs = (f"training.graph={switch}" for switch in ("on", "off"))
    return [runs([*common, f"training.fused={fused}", graph]) for graph in graphs]


def assert_same(replayed, eager):
    """Rows, weights and masks are equal bit for bit; where float32 rounds the learning rate, the losses are close."""
    rates = [row["rate/learning"] for row in rows_of(eager) if "rate/learning" in row]
    if torch.tensor(rates, dtype=torch.float32).double().tolist() != rates:
        assert_close(replayed, eager)
        return
    assert rows_of(replayed) == rows_of(eager)
    assert record_of(replayed)["digest"] == record_of(eager)["digest"]


def assert_close(replayed, eager):
    """The losses of all steps are equal up to rounding."""
    worst, step = worst_difference(losses_of(replayed), losses_of(eager))
    assert worst <= 1e-5, f"the loss of step {step} differs by {worst:.1e}"


@pytest.mark.parametrize("model", MODELS)
def test_a_captured_step_is_exact(runs, model):
    """The averages begin after half of the epochs, so that steps before and after the trigger are captured."""
    assert_same(*trained(runs, model, "selfish", None))


@pytest.mark.parametrize("model", LANGUAGE_MODELS)
def test_windows_of_all_lengths(runs, model):
    assert_same(*trained(runs, model, "selfish", "snt_asgd", *VARIABLE))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", ["rigl", "snfs"])
def test_steps_that_keep_dense_gradients(runs, method, optimizer):
    assert_same(*trained(runs, "rhn", method, optimizer, EVERY_20))


def test_pruning_and_iss(runs):
    assert_same(*trained(runs, "stacked_lstm", "gmp", "snt_asgd", EVERY_20, "sparsifier.prune_start=0"))
    assert_same(*trained(runs, "stacked_lstm", "iss", "sgd"))


def test_the_official_protocol(runs):
    assert_same(*trained(runs, "stacked_lstm", "selfish", "snt_asgd", "protocol=official_code"))
    assert_same(*trained(runs, "rhn", "set", "momentum_sgd", "protocol=official_code"))


def test_a_learning_rate_that_falls(runs):
    """A graph that holds the learning rate of its capture would go on with it."""
    decay = ["optimizer.decay_factor=0.25", "optimizer.decay_after=0.25", "optimizer.decay_every=0.25"]
    assert_same(*trained(runs, "stacked_lstm", "set", "sgd", *decay))


@pytest.mark.parametrize("model", MODELS)
def test_captured_triton_kernels(runs, model):
    assert_close(*trained(runs, model, "selfish", None, fused="on"))


def test_a_captured_run_resumes_bit_for_bit(runs):
    more = ["deterministic=true", "logger.every=1", "training.graph=on", *VARIABLE]
    overrides = overrides_of("rhn", "rigl", "snt_asgd", *more)
    undisturbed = runs(overrides)
    for steps in (13, 44):
        runs.stopped(overrides, steps, "resumed")
    assert_same(runs(overrides, into="resumed"), undisturbed)

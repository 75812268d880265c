"""On one kind of GPU, a run that is stopped resumes bit for bit; on another device, with a warning."""

import pytest
from device_runs import DEVICE, overrides_of, record_of, rows_of

RESUMED = (
    ("stacked_lstm", "selfish", "snt_asgd"),
    ("stacked_lstm", "rigl", "adam"),
    ("stacked_lstm", "snfs", "momentum_sgd"),
    ("rhn", "selfish", "snt_asgd"),
    ("rhn", "set", "momentum_sgd"),
    ("on_lstm", "selfish", "snt_asgd"),
    ("on_lstm", "rigl", "adam"),
    ("stacked_lstm", "set", "adamw"),
    ("awd_lstm_mos", "selfish", "snt_asgd"),
    ("lstm_classifier", "st_rnn", "adam"),
)
VARIABLE = ["training.bptt=5", "training.variable_bptt=true"]


@pytest.mark.parametrize(("model", "method", "optimizer"), RESUMED)
def test_a_resumed_run_equals_an_undisturbed_one(runs, model, method, optimizer):
    """With dropout; stopped before and after the averages begin, in the middle of epochs."""
    own = [] if model == "lstm_classifier" else VARIABLE
    overrides = overrides_of(model, method, optimizer, "deterministic=true", "logger.every=1", *own)
    undisturbed = runs(overrides)
    steps = max(row["step"] for row in rows_of(undisturbed))
    for share in (0.2, 0.45, 0.8):
        runs.stopped(overrides, round(share * steps), "resumed")
    resumed = runs(overrides, into="resumed")
    assert rows_of(resumed) == rows_of(undisturbed)
    assert record_of(resumed)["digest"] == record_of(undisturbed)["digest"]


def test_a_run_with_the_same_seed_is_repeated(runs):
    overrides = overrides_of("stacked_lstm", "selfish", "snt_asgd", "deterministic=true")
    assert record_of(runs(overrides))["digest"] == record_of(runs(overrides))["digest"]


@pytest.mark.parametrize("optimizer", ["snt_asgd", "adam"])
@pytest.mark.parametrize(("first", "then"), [(DEVICE, "cpu"), ("cpu", DEVICE)])
def test_a_run_resumes_on_another_device_with_a_warning(runs, capsys, first, then, optimizer):
    overrides = overrides_of("stacked_lstm", "rigl", optimizer)
    runs.stopped(overrides, 40, "moved", first)
    capsys.readouterr()
    record = record_of(runs(overrides, then, into="moved"))
    said = capsys.readouterr().out
    assert "Resuming after step 40." in said
    assert "warning: this run started" in said
    assert record["status"] == "finished"
    assert record["device"].startswith(then)

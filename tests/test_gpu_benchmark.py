"""The benchmark of a GPU, as far as it runs without one."""

import json
import time

import pytest
import torch

from benchmarks.gpu import steps, updates
from benchmarks.gpu.device_tests import outcome
from benchmarks.gpu.paper_run import EPOCHS, command, plan
from benchmarks.gpu.report import Report
from benchmarks.gpu.workload import Place
from sparse_rnn.config.compose import compose_run

SMALL = Place(torch.device("cpu"), small=True)


@pytest.fixture
def report(tmp_path):
    return Report(tmp_path / "bench" / "gpu.json", time.monotonic() + 100)


def test_a_section_that_fails_costs_no_other_rows(report):
    with report.section("first"):
        report.row("kept", ms=1.0)
        raise RuntimeError("broken")
    with report.section("second"):
        report.row("slow", ratio=1.2, bar=1.05)
        report.row("fast", ms=3.0, bar=3.5)
    stored = json.loads(report.path.read_text())
    assert [(row["what"], row["holds"]) for row in stored["rows"]] == [("kept", None), ("slow", False), ("fast", True)]
    assert stored["errors"] == [{"section": "first", "what": "first", "error": "RuntimeError: broken"}]
    assert "MISSED" in report.table()
    assert "RuntimeError: broken" in report.table()


def test_steps_and_the_end_of_an_epoch(report, monkeypatch):
    monkeypatch.setattr(steps, "MODELS", ("stacked_lstm",))
    monkeypatch.setattr(updates, "METHODS", {"rigl": []})
    monkeypatch.setattr(steps, "WARM_UP", 1)
    with report.section("all"):
        steps.measure(report, SMALL)
        updates.measure_updates(report, SMALL)
        updates.measure_epoch_end(report, SMALL)
    assert not report.errors
    measured = {row["what"]: row for row in report.rows}
    assert measured["stacked_lstm / plain, fp32, eager"]["ratio"] > 0
    assert measured["update, rigl, in steps"]["ratio"] > 0
    assert measured["epoch's end, second"]["validation_ms"] > 0


def test_what_is_said_of_the_fastest_step(report):
    times = {("rhn", "fp32", "eager"): 100.0, ("rhn", "fp32", "graph"): 15.0, ("rhn", "tf32", "graph"): 12.0}
    steps._summary(report, times)
    assert [(row["what"], row["holds"]) for row in report.rows] == [
        ("rhn, fastest: tf32, graph", True),
        ("rhn, graph / eager, fp32", True),
    ]


def test_the_outcome_of_several_runs_of_pytest():
    text = (
        "FAILED tests/cuda/test_a.py::test_x[rhn-set] - AssertionError: the loss\n"
        "1 failed, 20 passed in 31.20s\n.....\n22 passed, 1 skipped in 3.2s\n"
    )
    assert outcome(text) == {
        "failed": 1,
        "passed": 42,
        "skipped": 1,
        "failed_tests": ["tests/cuda/test_a.py::test_x[rhn-set] - AssertionError: the loss"],
    }


@pytest.mark.parametrize(("step_ms", "epochs"), [(3.0, EPOCHS), (6.0, 61), (60.0, 6), (2000.0, 1)])
def test_as_many_epochs_of_the_paper_s_run_as_fit(step_ms, epochs):
    made = plan(560.0, step_ms, 400.0, 5000.0)
    assert made.epochs == epochs
    assert made.epochs * (1328 * step_ms + 400.0) / 1e3 < 560 or epochs == 1
    assert (made.average_by == 1.0) == (epochs in (1, EPOCHS))


def test_averaging_begins_after_four_fifths_of_fewer_epochs():
    made = plan(560.0, 6.0, 400.0, 5000.0)
    arguments = command(made, Place(torch.device("cuda"), small=False), ["precision=tf32"])[3:]
    run = compose_run(arguments)
    assert (run.training.epochs, run.precision, run.protocol.name) == (61, "tf32", "official_code")
    assert int(run.budget.average_by * 61) == 49

"""The benchmark of a GPU, as far as it runs without one."""

import json
import time

import pytest
import torch

from benchmarks.gpu import apart, device_tests, steps, updates
from benchmarks.gpu.device_tests import outcome
from benchmarks.gpu.paper_run import EPOCHS, command, plan
from benchmarks.gpu.report import Report
from benchmarks.gpu.workload import Place
from sparse_rnn.config.compose import compose_run

SMALL = Place(torch.device("cpu"), small=True)


@pytest.fixture
def report(tmp_path):
    return Report(tmp_path / "bench" / "gpu.json", time.monotonic() + 1000)


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


def test_a_process_that_dies_costs_what_it_was_at(report, monkeypatch):
    """The first process hangs in `second`; the next one fails in `third`, which leaves its GPU unusable."""

    def broken():
        raise RuntimeError("an illegal memory access was encountered")

    def process(report, place, names):
        here = Report(report.path, report.deadline)
        here.read()
        with here.section(*names):
            here.attempt("first", lambda: here.row("first", ms=1.0))
            if not any("second" in each for each in here.attempted):
                here.attempted.append("steps: second")
                here.unfinished = "second"
                here.write()
                return 1
            monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
            monkeypatch.setattr(torch.cuda, "synchronize", broken)
            try:
                here.attempt("third", broken)
            except SystemExit as stopped:
                return stopped.code
            here.attempt("fourth", lambda: here.row("fourth", ms=4.0))
        return 0

    monkeypatch.setattr(apart, "_exit_code", process)
    apart.run(report, SMALL, ["steps"])
    assert [row["what"] for row in report.rows] == ["first", "fourth"]
    assert [error["what"] for error in report.errors] == ["second", "third"]
    assert "hung or crashed" in report.errors[0]["error"]


def test_a_process_that_cannot_begin_is_not_started_again(report, monkeypatch):
    codes = [1]
    monkeypatch.setattr(apart, "_exit_code", lambda *given: codes.pop())
    apart.run(report, SMALL, ["steps"])
    assert report.errors[0]["error"] == "the process ended before it began (exit code 1)"


def test_what_there_is_no_time_for_is_said(report):
    report.attempt("a long section", lambda: report.row("measured"), least=10_000.0)
    assert [row["what"] for row in report.rows] == ["no time left for a long section"]


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


def test_tests_behind_one_that_hangs_are_run_by_another_process(monkeypatch):
    names = [f"tests/cuda/test_a.py::test_x[graph=off {n}]" for n in range(5)]
    said = [
        f"{names[0]} PASSED [ 20%]\n{names[1]} Timeout (0:01:00)!\n",
        f"{names[2]} FAILED [ 33%]\nFAILED {names[2]} - AssertionError: the loss\n!!! the GPU no longer !!!\n",
        f"{names[3]} PASSED [ 50%]\n{names[4]} SKIPPED (no triton) [100%]\n",
    ]
    given = []

    def process(names, deadline):
        given.append(names)
        return said[len(given) - 1]

    monkeypatch.setattr(device_tests, "_one_process", process)
    text = device_tests._output(names, time.monotonic() + 1000)
    assert given == [names, names[2:], names[3:]]
    assert outcome(text, names) == {
        "failed": 1,
        "passed": 2,
        "skipped": 1,
        "not_run": 0,
        "failed_tests": [f"{names[2]} - AssertionError: the loss", f"{names[1]} - hung, crashed, or time was over"],
    }


def test_tests_that_no_process_begins_are_not_run_and_not_tried_for_ever(monkeypatch):
    monkeypatch.setattr(device_tests, "_one_process", lambda names, deadline: "ERROR: usage: pytest\n")
    names = ["tests/cuda/test_a.py::test_x"]
    text = device_tests._output(names, time.monotonic() + 1000)
    assert outcome(text, names)["not_run"] == 1


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

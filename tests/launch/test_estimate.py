"""Device hours of what is left, worked out by hand."""

import copy
from typing import Any

import pytest

from launch.estimate import Throughput, UnfinishedRun, device_of, estimate

LSTM = {
    "model": {"name": "stacked_lstm", "hidden": 1500, "layers": 2},
    "dataset": {"name": "ptb"},
    "optimizer": {"name": "adam", "lr": 0.001},
    "training": {"epochs": 100, "batch": 20, "bptt": 35, "sub_batch": None},
    "seed": 1,
}
RHN = LSTM | {"model": {"name": "rhn", "hidden": 830}}
A100, CPU = "NVIDIA A100", "AMD EPYC, 2 threads"


def record(config: dict[str, Any], speed: float | None, device: str = "cuda:0", **changes: Any) -> dict[str, Any]:
    """A finished run; on the CPU by two threads."""
    name = "AMD EPYC" if device == "cpu" else A100
    where = {"environment": {"device_name": name}, "device": device, "threads": 2}
    return {"status": "finished", "config": config, "tokens_per_second": speed, "seconds": 50.0, **where, **changes}


def changed(key: str, value: Any) -> dict[str, Any]:
    """The LSTM's configuration with another value."""
    config: dict[str, Any] = copy.deepcopy(LSTM)
    node = config
    *groups, last = key.split(".")
    for group in groups:
        node = node[group]
    node[last] = value
    return config


def test_the_mean_speed_of_runs_of_the_same_shape_for_each_device() -> None:
    """10,000 tokens a second are 36 million an hour, 1,000 are 3.6 million; 200 of 8,000 and 50 of 18,000 are 250 of
    10,000."""
    speeds = [record(LSTM, 8_000.0, seconds=200.0), record(LSTM, 18_000.0)]
    throughput = Throughput.of([*speeds, record(LSTM, 1_000.0, "cpu"), record(RHN, 77.0)])
    assert throughput.hours(LSTM, 36_000_000) == pytest.approx({A100: 1.0, CPU: 10.0})
    assert throughput.hours(RHN, 0.0) == {A100: 0.0}


@pytest.mark.parametrize(
    ("key", "value", "same"),
    [
        ("model.hidden", 700, False),
        ("dataset.name", "wikitext2", False),
        ("optimizer.name", "snt_asgd", False),
        ("training.batch", 10, False),
        ("training.bptt", 70, False),
        ("training.sub_batch", 5, False),
        ("optimizer.lr", 0.1, True),
        ("training.epochs", 3, True),
        ("seed", 2, True),
    ],
)
def test_what_makes_the_same_shape(key: str, value: Any, same: bool) -> None:
    throughput = Throughput.of([record(LSTM, 10_000.0)])
    assert bool(throughput.hours(changed(key, value), 1)) == same


@pytest.mark.parametrize(
    "unmeasured",
    [
        record(LSTM, None),
        {"config": LSTM, "status": "running", "environment": {}, "threads": 2},
        record(LSTM, 10.0, environment={"host": "old"}),
    ],
)
def test_records_that_do_not_say_how_fast_or_where_are_left_out(unmeasured: dict[str, Any]) -> None:
    assert Throughput.of([unmeasured]).hours(LSTM, 1) == {}


def test_processors_are_named_with_their_threads() -> None:
    assert device_of(record(LSTM, 1.0, "cpu")) == CPU
    assert device_of(record(LSTM, 1.0, "cpu", threads=1)) == "AMD EPYC, 1 thread"
    assert device_of(record(LSTM, 1.0, "cpu", threads=None)) == "AMD EPYC, unknown threads"
    assert device_of(record(LSTM, 1.0)) == A100


def test_a_run_that_is_partly_done_counts_what_is_left() -> None:
    """One hour and a quarter of one; 2e16 and a quarter of it FLOPs."""
    throughput = Throughput.of([record(LSTM, 10_000.0)])
    runs = [UnfinishedRun(LSTM, 36_000_000, 2e16), UnfinishedRun(LSTM, 36_000_000, 2e16, remaining=0.25)]
    assert estimate(runs, throughput) == "left: 2 runs, 2.50e16 FLOPs; 1.2 device hours on NVIDIA A100"


def test_what_is_not_known_is_said() -> None:
    throughput = Throughput.of([record(LSTM, 10_000.0), record(RHN, 1_000.0, "cpu")])
    lstm, rhn = UnfinishedRun(LSTM, 36_000_000, 3e16), UnfinishedRun(RHN, 3_600_000, 1e16)
    other = UnfinishedRun(changed("dataset.name", "mine"), None, None)
    assert estimate([lstm, lstm, rhn], Throughput.of([record(LSTM, 10_000.0)])) == (
        "left: 3 runs, 7.00e16 FLOPs; "
        "2.0 device hours on NVIDIA A100 (2 of 3 runs; 1 unknown: no earlier run of these sizes of rhn there)"
    )
    assert estimate([lstm, rhn, other], throughput).splitlines() == [
        "left: 3 runs, 4.00e16 FLOPs (2 of 3 runs)",
        "1.0 device hours on AMD EPYC, 2 threads (1 of 3 runs; 2 unknown: no earlier run of these sizes of "
        "stacked_lstm there, the size of mine is unknown)",
        "1.0 device hours on NVIDIA A100 (1 of 3 runs; 2 unknown: no earlier run of these sizes of rhn there, the "
        "size of mine is unknown)",
    ]


def test_little_is_known_or_left() -> None:
    nothing = Throughput.of([])
    runs = [UnfinishedRun(RHN, 1, 1e9), UnfinishedRun(LSTM, 1, 1e9)]
    assert estimate(runs, nothing) == (
        "left: 2 runs, 2.00e9 FLOPs; device hours unknown: no earlier run of these sizes of rhn, stacked_lstm"
    )
    assert estimate([UnfinishedRun(LSTM, None, None)], nothing) == (
        "left: 1 run, FLOPs unknown; device hours unknown: the size of ptb is unknown"
    )
    assert estimate([UnfinishedRun(LSTM, 1_200_000, 1e9)], Throughput.of([record(LSTM, 10_000.0)])) == (
        "left: 1 run, 1.00e9 FLOPs; 2.0 device minutes on NVIDIA A100"
    )
    assert estimate([], nothing) == "left: nothing"

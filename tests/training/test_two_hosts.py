"""Two hosts, whose clocks are minutes apart, and one run on a file system that they share: real processes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from run_helpers import Train, folder_of, lines_in, record_of, rows_of, wait_until

from sparse_rnn.runs.folder import RunFolder

pytestmark = pytest.mark.processes

# The lock's seconds are fewer, and training rests in its middle for as long as there is a file `rest`.
HOST = """
import os, sys, time
clock, ahead, rest = time.time, float(sys.argv.pop(1)), sys.argv.pop(1)
time.time = lambda: clock() + ahead
from sparse_rnn.core import lock
lock.HEARTBEAT_SECONDS, lock.STALE_SECONDS, lock.LOOK_SECONDS = 0.2, 2.0, 0.1
from sparse_rnn.training.trainer import Trainer
step = Trainer.train_step
def train_step(self, batch):
    while self.state.step == 60 and os.path.exists(rest):
        time.sleep(0.01)
    step(self, batch)
Trainer.train_step = train_step
from sparse_rnn.train import main
main()
"""
STALE_SECONDS = 2.0
LATEST = 15.0  # seconds within which a host has begun to train, once it may
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(root: Path) -> Iterator[Start]:
    """Starts training on a host of this name, whose clock is so many seconds ahead."""
    if subprocess.run(["unshare", "--uts", "hostname", "nodea"], capture_output=True).returncode:
        pytest.skip("only root can give a process a host name of its own")
    started = []

    def on(host: str, ahead: float, overrides: list[str]) -> "subprocess.Popen[str]":
        command = ["unshare", "--uts", "sh", "-c", f'hostname {host}; exec "$@"', "-", sys.executable, "-c", HOST]
        process = subprocess.Popen(
            [*command, str(ahead), str(root.with_name("rest")), *overrides],
            env=os.environ | {"SPARSE_RNN_RUNS": str(root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        started.append(process)
        return process

    yield on
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def undisturbed(tiny: list[str], train_here: Train) -> RunFolder:
    return train_here([*tiny, "training.epochs=12"], "undisturbed")


@pytest.fixture
def rest(root: Path) -> Path:
    path = root.with_name("rest")
    path.touch()
    return path


@pytest.fixture
def run(tiny: list[str]) -> list[str]:
    return [*tiny, "training.epochs=12", "logger=files"]


def begin(start: Start, ahead: float, run: list[str], folder: RunFolder) -> "subprocess.Popen[str]":
    """Train on nodea, until the first rows are there."""
    process = start("nodea", ahead, run)
    wait_until(lambda: lines_in(folder.metrics) > 20)
    return process


def check(folder: RunFolder, undisturbed: RunFolder) -> None:
    """The run ended as if nobody had disturbed it, and nothing is left behind."""
    assert record_of(folder)["status"] == "finished"
    assert rows_of(folder) == rows_of(undisturbed)
    assert record_of(folder)["digest"] == record_of(undisturbed)["digest"]
    assert sorted(path.name for path in folder.path.iterdir()) == sorted(
        path.name for path in undisturbed.path.iterdir()
    )


@pytest.mark.parametrize("ahead", [300, -300])
def test_only_one_of_two_hosts_trains(
    start: Start, run: list[str], root: Path, undisturbed: RunFolder, rest: Path, ahead: float
) -> None:
    folder = folder_of(run, root)
    first = begin(start, ahead, run, folder)
    assert json.loads(folder.lock.read_text())["host"] == "nodea"
    second = start("nodeb", 0, run)
    said, error = second.communicate(timeout=60)
    assert second.returncode == 3
    assert error.startswith(f"error: Another process is training this run (host nodea, process {first.pid}): wait for ")
    assert error.count("\n") == 1
    assert said.splitlines()[-1].startswith("Another process has locked this run (host nodea, ")
    rest.unlink()
    assert first.wait(60) == 0
    check(folder, undisturbed)


@pytest.mark.parametrize("ahead", [300, -300])
def test_a_dead_host_locks_a_run_no_longer_than_promised(
    start: Start, run: list[str], root: Path, undisturbed: RunFolder, rest: Path, ahead: float
) -> None:
    folder = folder_of(run, root)
    first = begin(start, ahead, run, folder)
    first.kill()
    first.wait()
    rest.unlink()
    begun = time.monotonic()
    second = start("nodeb", 0, run)
    wait_until(lambda: json.loads(folder.lock.read_text())["host"] == "nodeb")
    assert STALE_SECONDS < time.monotonic() - begun < STALE_SECONDS + LATEST
    assert second.wait(60) == 0
    check(folder, undisturbed)


@pytest.mark.parametrize("late", [False, True])
def test_a_host_that_was_cut_off_and_comes_back_writes_nothing_more(
    start: Start, run: list[str], root: Path, undisturbed: RunFolder, rest: Path, late: bool
) -> None:
    folder = folder_of(run, root)
    first = begin(start, 300, run, folder)
    first.send_signal(signal.SIGSTOP)
    rest.unlink()
    second = start("nodeb", 0, run)
    wait_until(lambda: json.loads(folder.lock.read_text())["host"] == "nodeb")
    if late:
        assert second.wait(60) == 0
    first.send_signal(signal.SIGCONT)
    _, error = first.communicate(timeout=60)
    assert (first.returncode, error) == (3, "error: Another process has taken over this run.\n")
    assert second.wait(60) == 0
    check(folder, undisturbed)

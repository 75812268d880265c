"""One process per run: when a lock is stale, who takes it over, and what its loss does."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from run_helpers import Commands, folder_of, record_of, rows_of, wait_until

from sparse_rnn.core import lock
from sparse_rnn.core.lock import RunLock, RunLocked, process_namespace, process_start

CONTENDER = """
import sys, time
from pathlib import Path
from sparse_rnn.core.lock import RunLock, RunLocked
wins = Path(sys.argv[1]).with_name("wins")
for turn in range(int(sys.argv[2])):
    path = Path(sys.argv[1]).with_name(f"lock{turn}")
    while time.time() < float(sys.argv[3]) + turn * 0.02:
        pass
    try:
        held = RunLock(path).__enter__()
        with wins.open("a") as stream:
            stream.write(f"{turn}\\n")
    except RunLocked:
        pass
print("done", flush=True)
sys.stdin.read()
"""


def dead_pid() -> int:
    """A process that has been and is no more."""
    return int(subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout)


def leave_lock(path: Path, **changes: Any) -> None:
    """A lock as this very process would hold it, but for `changes`."""
    holder = {
        "token": "other",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": process_start(os.getpid()),
        "processes": process_namespace(),
        "slurm_job": "",
        "slurm_restart": 0,
        "heartbeat": time.time(),
    }
    path.write_text(json.dumps(holder | changes))


def taken_over(path: Path) -> bool:
    """Whether the lock that lies there is replaced; it leaves nothing behind either way."""
    try:
        with RunLock(path):
            assert json.loads(path.read_text())["pid"] == os.getpid()
    except RunLocked:
        assert [each.name for each in path.parent.iterdir()] == [path.name]
        return False
    assert list(path.parent.iterdir()) == []
    return True


@pytest.mark.parametrize(
    ("changes", "stale"),
    [
        ({}, False),
        ({"pid": "dead"}, True),
        ({"started": "1"}, True),  # the pid is in use again
        ({"heartbeat": time.time() - 10_000}, True),
        ({"host": "elsewhere"}, False),
        ({"host": "elsewhere", "heartbeat": time.time() - 10_000}, True),
        ({"host": "elsewhere", "slurm_job": "17"}, True),
        ({"host": "elsewhere", "slurm_job": "18"}, False),
        ({"host": "elsewhere", "slurm_job": "17", "slurm_restart": 1}, False),  # another task of the same job
        ({"pid": 2**22 + 1, "started": "1", "processes": "pid:[1]"}, False),  # a container of the same host name
    ],
)
def test_what_is_stale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], stale: bool) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    if changes.get("pid") == "dead":
        changes = {"pid": dead_pid()}
    leave_lock(tmp_path / "run.lock", **changes)
    assert taken_over(tmp_path / "run.lock") is stale


def test_without_slurm_no_other_host_is_of_our_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    leave_lock(tmp_path / "run.lock", host="elsewhere")
    assert not taken_over(tmp_path / "run.lock")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"token": "half"}', "\0" * 20])
def test_a_damaged_lock_is_replaced(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.lock").write_text(text)
    assert taken_over(tmp_path / "run.lock")


def test_who_died_while_taking_over_is_in_nobodys_way(tmp_path: Path) -> None:
    leave_lock(tmp_path / "run.lock", pid=dead_pid())
    leave_lock(tmp_path / ".run.lock.other", pid=dead_pid(), token="heir")
    assert taken_over(tmp_path / "run.lock")


def test_who_takes_over_just_now_is_respected(tmp_path: Path) -> None:
    leave_lock(tmp_path / "run.lock", pid=dead_pid())
    leave_lock(tmp_path / ".run.lock.other", token="heir")
    with pytest.raises(RunLocked, match="Another process is training this run"):
        RunLock(tmp_path / "run.lock").__enter__()


def test_threads_that_race_for_a_stale_lock(tmp_path: Path) -> None:
    gone = dead_pid()
    for turn in range(60):
        path = tmp_path / str(turn) / "run.lock"
        path.parent.mkdir()
        leave_lock(path, pid=gone)
        barrier, won = threading.Barrier(4), []

        def contend(path: Path = path, barrier: threading.Barrier = barrier, won: list[RunLock] = won) -> None:
            contender = RunLock(path)
            barrier.wait()
            with suppress(RunLocked):
                won.append(contender.__enter__())

        threads = [threading.Thread(target=contend) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        won[0].__exit__(None, None, None)
        assert list(path.parent.iterdir()) == []


def test_processes_that_race_for_a_stale_lock(tmp_path: Path) -> None:
    turns, gone = 60, dead_pid()
    for turn in range(turns):
        leave_lock(tmp_path / f"lock{turn}", pid=gone)
    begin = str(time.time() + 1.0)
    command = [sys.executable, "-c", CONTENDER, str(tmp_path / "lock"), str(turns), begin]
    contenders = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    try:
        for contender in contenders:
            assert contender.stdout is not None
            assert contender.stdout.readline() == "done\n"
        assert sorted(map(int, (tmp_path / "wins").read_text().split())) == list(range(turns))
    finally:
        for contender in contenders:
            contender.kill()
            contender.communicate()


def test_heartbeat_is_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.01)
    path = tmp_path / "run.lock"
    with RunLock(path):
        first = json.loads(path.read_text())["heartbeat"]
        wait_until(lambda: json.loads(path.read_text())["heartbeat"] > first)


@pytest.mark.parametrize("loss", ["removed", "replaced"])
def test_loss_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.01)
    path, lost = tmp_path / "run.lock", threading.Event()
    with RunLock(path, on_loss=lost.set):
        if loss == "removed":
            path.unlink()
        else:
            leave_lock(tmp_path / "new")
            (tmp_path / "new").replace(path)
        assert lost.wait(30)
    assert path.exists() == (loss == "replaced")  # what is another's stays


def test_needs_no_flock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(*arguments: Any) -> None:
        raise OSError("no locks on this file system")

    for name in ("flock", "lockf", "fcntl"):
        monkeypatch.setattr(fcntl, name, refuse)
    monkeypatch.setattr(os, "lockf", refuse)
    assert taken_over(tmp_path / "run.lock")


def test_second_process_is_refused_and_the_first_goes_on(tiny: list[str], commands: Commands) -> None:
    overrides = [*tiny, "training.epochs=100", "logger=files"]
    folder = folder_of(overrides, commands.root)
    first = commands.start(overrides)
    wait_until(lambda: folder.metrics.exists() and folder.metrics.stat().st_size)
    code, said = commands.run(overrides)
    refused = [line for line in said.splitlines() if line.startswith("error: Another process is training this run")]
    first.join(60)
    assert code == 3
    assert len(refused) == 1
    assert f"process {first.pid}" in refused[0]
    assert "Traceback" not in commands.said
    assert first.exitcode == 0
    assert record_of(folder)["status"] == "finished"
    assert len([row for row in rows_of(folder) if "valid/loss" in row]) == 100


def test_who_loses_the_lock_ends_at_once(tiny: list[str], commands: Commands, root: Path) -> None:
    code = (
        "from sparse_rnn.core import lock; import sys, threading, pathlib; lock.HEARTBEAT_SECONDS = 0.01\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "with lock.RunLock(path):\n path.unlink(); threading.Event().wait(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(root.parent / "run.lock")], capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stderr == "error: Another process has taken over this run.\n"

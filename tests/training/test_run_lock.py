"""One process per run: when a lock is stale, and who takes it over."""

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
from lock_helpers import beating, dead_pid, leave_lock, suspended_process, taken_over
from run_helpers import Commands, folder_of, record_of, rows_of, wait_until

from sparse_rnn.core import lock
from sparse_rnn.core.errors import RunLocked
from sparse_rnn.core.lock import DAMAGED, RunLock, read_holder
from sparse_rnn.core.processes import process_start

CONTENDER = """
import sys, time
from pathlib import Path
from sparse_rnn.core.lock import RunLock, RunLocked
wins = Path(sys.argv[1]).with_name("wins")
for turn in range(int(sys.argv[2])):
    path = Path(sys.argv[1]).with_name(f"lock{turn}")
    while time.time() < float(sys.argv[3]) + turn * 0.7:
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


@pytest.mark.parametrize(
    ("changes", "stale"),
    [
        ({}, False),
        ({"heartbeat": 0}, False),  # it lives, whatever its clock says
        ({"pid": "dead"}, True),
        ({"started": "1"}, True),  # the pid is in use again
        ({"host": "elsewhere", "slurm_job": "17"}, True),
    ],
)
def test_what_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], stale: bool
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    if changes.get("pid") == "dead":
        changes = {"pid": dead_pid()}
    leave_lock(tmp_path / "run.lock", **changes)
    assert taken_over(tmp_path / "run.lock") is stale


ELSEWHERE = [
    {"host": "elsewhere"},
    {"host": "elsewhere", "slurm_job": "18"},
    {"host": "elsewhere", "slurm_job": "17", "slurm_restart": 1},  # another task of the same job
    {"pid": 2**22 + 1, "started": "1", "processes": "pid:[1]"},  # a container, or a host, of the same name
]


@pytest.mark.parametrize("ahead", [-100_000, -300, 0, 300, 100_000])
@pytest.mark.parametrize("changes", ELSEWHERE)
def test_elsewhere_a_heartbeat_that_moves_is_alive_and_one_that_stands_still_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None, changes: dict[str, Any], ahead: int
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    path = tmp_path / "run.lock"
    with beating(path, **changes, heartbeat=int(time.time()) + ahead), pytest.raises(RunLocked, match="is replaced"):
        RunLock(path).__enter__()
    begun, said = time.monotonic(), []
    with RunLock(path, on_wait=said.append):
        assert 0.4 < time.monotonic() - begun < 5
    assert list(tmp_path.iterdir()) == []
    assert [sentence[:42] for sentence in said] == ["Another process has locked this run (host "]


def test_without_slurm_no_other_host_is_of_our_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with beating(tmp_path / "run.lock", host="elsewhere"):
        assert not taken_over(tmp_path / "run.lock")


def test_a_suspended_process_is_waited_for_like_one_elsewhere(tmp_path: Path, quick: None) -> None:
    with suspended_process() as pid:
        leave_lock(tmp_path / "run.lock", pid=pid, started=process_start(pid))
        begun = time.monotonic()
        assert taken_over(tmp_path / "run.lock")
        assert time.monotonic() - begun > 0.4


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "null", "7", '{"token": "half"}', "\0" * 20, "[" * 100_000, '{"a":' * 100_000, "9" * 5000),
        *(
            json.dumps({**DAMAGED, "token": "t", "pid": 1, **wrong})
            for wrong in (
                *({name: value} for name in DAMAGED for value in (None, [], {}, 1.5, True)),
                *({name: "line\nbreak \x1b[31m"} for name in ("token", "host", "slurm_job")),
                *({name: value} for name in ("pid", "heartbeat") for value in (float("nan"), float("inf"), "1")),
                *({"pid": -1}, {"token": "../../x\ud800"}),
            )
        ),
    ],
)
def test_a_damaged_lock_is_replaced(tmp_path: Path, quick: None, text: str) -> None:
    (tmp_path / "run.lock").write_text(text)
    assert read_holder(tmp_path / "run.lock") == DAMAGED
    assert taken_over(tmp_path / "run.lock")


@pytest.mark.parametrize("kind", ["fifo", "socket", "link", "dangling link", "link to a fifo"])
def test_what_is_no_file_is_replaced_and_blocks_nobody(tmp_path: Path, quick: None, kind: str) -> None:
    path, target = tmp_path / "folder" / "run.lock", tmp_path / "target"
    path.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as bound:
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "socket":
            bound.bind(str(path))
        else:
            path.symlink_to(target)
        if kind == "link":
            leave_lock(target)
        elif kind == "link to a fifo":
            os.mkfifo(target)
        assert taken_over(path)
    assert target.exists() == (kind in ("link", "link to a fifo"))


def test_a_folder_in_the_place_of_the_lock_is_an_error(tmp_path: Path, quick: None) -> None:
    (tmp_path / "run.lock").mkdir()
    with pytest.raises(IsADirectoryError):
        RunLock(tmp_path / "run.lock").__enter__()
    assert [path.name for path in tmp_path.iterdir()] == ["run.lock"]


def test_a_lock_that_is_just_being_written_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.lock"
    path.touch()
    timer = threading.Timer(0.8, leave_lock, [path])
    timer.start()
    with pytest.raises(RunLocked):
        RunLock(path).__enter__()


def test_who_comes_too_late_to_take_over_finds_its_draft_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.lock"
    leave_lock(path, pid=dead_pid())
    faster, look = RunLock(path), read_holder

    def overtaken(asked: Path) -> dict[str, Any] | None:
        """The look before the renaming, after which another process is faster."""
        seen = look(asked)
        if list(tmp_path.glob(".run.lock.*")):
            monkeypatch.setattr(lock, "read_holder", look)
            faster.__enter__()
        return seen

    monkeypatch.setattr(lock, "read_holder", overtaken)
    with pytest.raises(RunLocked):
        RunLock(path).__enter__()
    faster.confirm()
    faster.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.processes
def test_threads_that_race_for_a_stale_lock(tmp_path: Path) -> None:
    gone = dead_pid()
    for turn in range(10):
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


@pytest.mark.processes
def test_processes_that_race_for_a_stale_lock(tmp_path: Path) -> None:
    turns, gone = 10, dead_pid()
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


def test_no_hard_link_is_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise PermissionError("no links on this file system")

    monkeypatch.setattr(os, "link", refuse)
    leave_lock(tmp_path / "run.lock", pid=dead_pid())
    assert taken_over(tmp_path / "run.lock")


def test_needs_no_flock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import fcntl

    def refuse(*arguments: Any) -> None:
        raise OSError("no locks on this file system")

    for name in ("flock", "lockf", "fcntl"):
        monkeypatch.setattr(fcntl, name, refuse)
    monkeypatch.setattr(os, "lockf", refuse)
    assert taken_over(tmp_path / "run.lock")


@pytest.mark.processes
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

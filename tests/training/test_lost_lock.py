"""The heartbeat of a lock, and what becomes of a process that has lost it: it writes nothing more."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from lock_helpers import leave_lock
from run_helpers import wait_until

from sparse_rnn.core import lock
from sparse_rnn.core.files import atomic
from sparse_rnn.core.lock import RunLock
from sparse_rnn.runs.claim import claim
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.training.loggers.json_lines import JsonLines


def test_the_heartbeat_needs_no_clock_and_is_never_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock, "HEARTBEAT_SECONDS", 0.001)
    monkeypatch.setattr(time, "time", lambda: -7.0)  # it stands still
    path, beats = tmp_path / "run.lock", []
    with RunLock(path):
        while len(beats) < 2 or beats[-1] < beats[0] + 100:
            beats.append(json.loads(path.read_text())["heartbeat"])
    assert beats == sorted(beats)


def test_a_late_heartbeat_does_not_reach_the_lock_of_another(tmp_path: Path) -> None:
    path = tmp_path / "run.lock"
    with RunLock(path, on_loss=lambda: None) as late:
        with lock._opened(path, os.O_RDWR) as descriptor:
            assert descriptor is not None
            leave_lock(tmp_path / "new", token="new")
            (tmp_path / "new").replace(path)
            os.pwrite(descriptor, late._text(), 0)
        assert not late._renew()
    assert json.loads(path.read_text())["token"] == "new"


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


def test_who_loses_the_lock_ends_at_once(tmp_path: Path) -> None:
    code = (
        "from sparse_rnn.core import lock; import sys, threading, pathlib; lock.HEARTBEAT_SECONDS = 0.01\n"
        "path = pathlib.Path(sys.argv[1])\n"
        "with lock.RunLock(path):\n path.unlink(); threading.Event().wait(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run.lock")], capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stderr == "error: Another process has taken over this run.\n"


class Lost(Exception):
    """Stands for the end of the process."""


@pytest.fixture
def lost(tmp_path: Path) -> Iterator[RunFolder]:
    """A folder whose lock was ours until another process took it over, which nobody has told us."""
    folder, path = RunFolder(tmp_path), tmp_path / "run.lock"

    def lose() -> None:
        raise Lost

    with RunLock(path, on_loss=lose):
        folder.snapshots.mkdir()
        for file in (folder.record, folder.checkpoint, folder.snapshots / "epoch0001.safetensors", folder.metrics):
            file.write_text("of the other\n")
        leave_lock(tmp_path / "new", token="new")
        (tmp_path / "new").replace(path)
        yield folder


@pytest.mark.parametrize(
    "name", ["record.json", "checkpoint.pt", "best.safetensors", "snapshots/epoch0001.safetensors"]
)
def test_who_has_lost_the_lock_replaces_no_file(lost: RunFolder, name: str) -> None:
    path = lost.path / name
    before = path.read_text() if path.exists() else None
    with pytest.raises(Lost), atomic(path) as draft:
        draft.write_text("late")
    assert (path.read_text() if path.exists() else None) == before
    assert not list(path.parent.glob(".*"))


@pytest.mark.parametrize("how", ["", "threading.Event().wait(60)"])
def test_who_ends_for_a_lost_lock_leaves_no_draft(tmp_path: Path, how: str) -> None:
    """Noticed by the thread that writes, or by the heart while it does."""
    code = (
        "from sparse_rnn.core import lock, files; import sys, threading, pathlib\n"
        f"path = pathlib.Path('run.lock'); lock.HEARTBEAT_SECONDS = {0.01 if how else 60}\n"
        f"with lock.RunLock(path), files.atomic(pathlib.Path('x')) as draft:\n draft.touch(); path.unlink(); {how}\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (3, "error: Another process has taken over this run.\n")
    assert list(tmp_path.iterdir()) == []


def test_who_has_lost_the_lock_logs_and_cuts_no_row(lost: RunFolder) -> None:
    with pytest.raises(Lost):
        JsonLines(lost.metrics, cut_at=0)
    assert lost.metrics.read_text() == "of the other\n"


def test_who_loses_the_lock_between_its_last_look_and_a_write_harms_nothing(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    rows = JsonLines(folder.metrics, cut_at=0)
    rows.row({"step": 1, "epoch": 1})
    folder.checkpoint.write_text("last good")

    def write_late() -> None:
        with atomic(folder.checkpoint) as draft:
            draft.write_text("late")
            claim(folder)  # by another process

    with pytest.raises(FileNotFoundError):
        write_late()
    rows.row({"step": 2, "epoch": 1})
    rows.finish(0)
    assert folder.checkpoint.read_text() == "last good"
    assert folder.metrics.read_text() == '{"step": 1, "epoch": 1}\n'
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint.pt", "metrics.jsonl"]


def test_a_process_without_a_lock_writes_where_it_likes(tmp_path: Path) -> None:
    leave_lock(tmp_path / "run.lock")
    with atomic(tmp_path / "export") as draft:
        draft.write_text("x")
    assert (tmp_path / "export").read_text() == "x"

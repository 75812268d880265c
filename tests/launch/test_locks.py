"""Locks of other hosts, and damaged ones, as jobs and `status` find them."""

import json
import os
import threading
import time

import pytest
from fake_training import replace_training, starts_of
from launch_helpers import SMALL

from launch.job import LOCKED, Supervisor
from launch.states import find_status
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import as_dict, run_id
from sparse_rnn.core import lock
from sparse_rnn.runs.folder import RunFolder

RUN = compose_run(SMALL)
DAMAGED = ["", "null", "[]", "7", '{"token": 7}', "[" * 100_000, "\0" * 4096]


def leave_lock(folder: RunFolder, **changes: object) -> None:
    holder = {**lock.DAMAGED, "token": "other", "host": "elsewhere", "pid": 7, "heartbeat": 1_000_000_000, **changes}
    folder.lock.with_name("next").write_text(json.dumps(holder))
    folder.lock.with_name("next").replace(folder.lock)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    replace_training(tmp_path, monkeypatch)
    for name, seconds in (("STALE", 0.5), ("LOOK", 0.02), ("SETTLE", 0.02), ("DAMAGED", 0.1)):
        monkeypatch.setattr(lock, f"{name}_SECONDS", seconds)
    (tmp_path / "run").mkdir()
    return RunFolder(tmp_path / "run")


def test_a_job_waits_until_a_host_that_died_has_been_silent_long_enough(folder):
    leave_lock(folder, heartbeat=int(time.time()) + 300)
    begun = time.monotonic()
    assert Supervisor(folder.path, ["true"]).run() == 0
    assert 0.4 < time.monotonic() - begun < 20
    assert not folder.lock.exists()


def test_a_job_leaves_a_run_alone_that_another_host_works_on(folder):
    leave_lock(folder)
    beat = threading.Timer(0.2, leave_lock, [folder], {"heartbeat": 1_000_000_001})
    beat.start()
    assert Supervisor(folder.path, ["true"]).run() == LOCKED
    beat.join()
    assert [path.name for path in folder.path.iterdir()] == ["run.lock"]


def test_a_job_that_waits_can_be_stopped(folder, monkeypatch):
    monkeypatch.setattr(lock, "STALE_SECONDS", 60)
    leave_lock(folder)
    supervisor = Supervisor(folder.path, ["sleep 60"])
    stop = threading.Timer(0.2, supervisor.stop, [15])
    stop.start()
    assert supervisor.run() > 128
    assert json.loads(folder.lock.read_text())["token"] == "other"


@pytest.mark.parametrize("text", [*DAMAGED, None])
def test_a_damaged_lock_holds_no_job_up(folder, text):
    os.mkfifo(folder.lock) if text is None else folder.lock.write_text(text)
    assert Supervisor(folder.path, ["true"]).run() == 0
    assert starts_of(folder.path) == 1
    assert not folder.lock.exists()


@pytest.fixture
def status(tmp_path, monkeypatch):
    """What `status` says of a run; `now`: the seconds that this host's clock has gone on."""
    monkeypatch.setattr(time, "time", lambda: clock[0])
    clock, begin = [0.0], 1_700_000_000.0
    path = tmp_path / run_id(RUN)
    path.mkdir()

    def found(folder: RunFolder, now: float = 0.0) -> str:
        clock[0] = begin + now
        return find_status(folder, None, as_dict(RUN), {}, {}).state

    return RunFolder(path), found


@pytest.mark.parametrize("ahead", [-100_000, -300, 0, 300, 100_000])
def test_whether_a_run_of_another_host_goes_on_is_told_by_its_heartbeat_alone(status, ahead):
    folder, state = status
    leave_lock(folder, heartbeat=1_700_000_000 + ahead)
    assert [state(folder, now) for now in (0, 10, 119)] == ["running"] * 3
    assert [state(folder, now) for now in (121, 5000)] == ["missing"] * 2
    leave_lock(folder, heartbeat=1_700_000_001 + ahead)
    assert [state(folder, now) for now in (5001, 5010)] == ["running"] * 2
    assert state(folder, 5130) == "missing"
    leave_lock(folder, heartbeat=1_700_000_001 + ahead, token="its heir")
    assert state(folder, 5131) == "running"


@pytest.mark.parametrize("text", [*DAMAGED, None])
def test_a_damaged_lock_is_no_sign_of_life(status, text):
    folder, state = status
    os.mkfifo(folder.lock) if text is None else folder.lock.write_text(text)
    assert state(folder) == "missing"


@pytest.mark.parametrize("memory", ["null", '{"RUN": 7}', '{"RUN": [7, "x"]}', '{"RUN": []}'])
def test_damaged_memory_of_earlier_looks_is_forgotten(status, memory):
    folder, state = status
    leave_lock(folder)
    assert state(folder) == "running"
    (file,) = (folder.path.parent / ".launch").iterdir()
    file.write_text(memory.replace("RUN", folder.path.name))
    assert [state(folder, now) for now in (0, 121)] == ["running", "missing"]

"""A run whose device is lost: started again or queued again, given up at some time, and what `status` says of it."""

import json

import pytest
from fake_training import replace_training, starts_of
from launch_helpers import SMALL

from launch.job import DEVICE_LOST, KILLS_WITHOUT_PROGRESS, Supervisor
from launch.states import RunStatus, find_status
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import as_dict
from sparse_rnn.core.errors import DeviceLost
from sparse_rnn.runs.folder import RunFolder

LOSE = "echo 'error: The GPU has fallen off the bus.' >&2; exit 4"
LOSE_TWICE = f"echo >> run/lost; [ $(wc -l < run/lost) -gt 2 ] || {{ {LOSE}; }}"
CONFIG = as_dict(compose_run(SMALL))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    replace_training(tmp_path, monkeypatch)
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def where(folder, queue=None) -> RunStatus:
    record = {"status": "failed", "error": "The GPU has fallen off the bus.", "config": CONFIG, "data_sha256": ""}
    return find_status(RunFolder(folder), record, None, queue or {}, {})


def test_the_exit_code_is_that_of_the_error():
    assert DeviceLost.exit_code == DEVICE_LOST == 4


def test_on_this_machine_it_is_started_again_at_once(folder):
    assert Supervisor(folder, [LOSE_TWICE]).run() == 0
    assert starts_of(folder) == 3
    facts = json.loads((folder / "attempts.json").read_text())
    assert (facts["error"], facts.get("lost"), facts["finished"]) == (None, None, True)


def test_it_is_given_up_like_one_that_is_killed(folder):
    assert Supervisor(folder, [LOSE]).run() == 1
    assert starts_of(folder) == KILLS_WITHOUT_PROGRESS
    assert where(folder).state == "failed"
    assert "lost its device, 5 times" in where(folder).detail
    assert "(The GPU has fallen off the bus);" in where(folder).detail


def test_a_new_checkpoint_in_between_makes_it_count_from_the_start(folder):
    save = "date +%N > run/checkpoint.pt; echo >> run/lost; [ $(wc -l < run/lost) -gt 8 ]"
    assert Supervisor(folder, [f"{save} || {{ {LOSE}; }}"]).run() == 0
    assert starts_of(folder) == 9


def test_in_a_job_it_waits_to_be_queued_again_and_says_so(folder):
    assert Supervisor(folder, [LOSE], queued_again=True).run() == DEVICE_LOST
    assert starts_of(folder) == 1
    waits = where(folder, queue={"run": "queued BeginTime"})
    assert (waits.state, waits.detail) == ("queued", "BeginTime; The GPU has fallen off the bus.")
    cancelled = where(folder)  # its record says failed, but it is not to blame
    assert cancelled.state == "missing"
    assert cancelled.detail.endswith("resumes from there; The GPU has fallen off the bus.")
    assert Supervisor(folder, ["exit 0"], queued_again=True).run() == 0
    assert "fallen" not in where(folder, queue={"run": "running"}).detail


def test_a_job_that_loses_one_device_after_another_is_not_queued_for_ever(folder):
    codes = [Supervisor(folder, [LOSE], queued_again=True).run() for _ in range(KILLS_WITHOUT_PROGRESS + 1)]
    assert codes == [DEVICE_LOST] * KILLS_WITHOUT_PROGRESS + [1]
    assert where(folder).state == "failed"


def test_a_failure_of_its_own_afterwards_counts(folder):
    assert Supervisor(folder, [LOSE], queued_again=True).run() == DEVICE_LOST
    assert Supervisor(folder, ["echo 'error: The loss became nan.'; exit 1"], queued_again=True).run() == 1
    assert (where(folder).state, where(folder).detail) == ("failed", "The loss became nan.")

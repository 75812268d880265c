"""Where runs stand, told from the files that they and the launcher leave."""

import json
import time
from pathlib import Path

import pytest
from launch_helpers import SMALL

from launch.job import EXIT_LINE
from launch.states import find_status
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import as_dict, run_id
from sparse_rnn.core.lock import RunLock
from sparse_rnn.runs.folder import RunFolder, read_record

RUN = compose_run(SMALL)
CONFIG = as_dict(RUN)


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    path = tmp_path / run_id(RUN)
    path.mkdir()
    return RunFolder(path)


def write_record(folder: RunFolder, status: str, **facts: object) -> None:
    record = {"config": CONFIG, "status": status, "data_sha256": "", **facts}
    folder.record.write_text(json.dumps(record))


def write_submission(folder: RunFolder, log: str) -> None:
    path = folder.path.parent / "job.out"
    path.write_text(log)
    facts = {"cluster": "slurm", "job": "12_0", "log": str(path), "submitted": time.time()}
    (folder.path / "submission.json").write_text(json.dumps(facts))


def where(folder: RunFolder, queue=None, ended=None):
    return find_status(folder, read_record(folder), CONFIG, queue or {}, ended or {})


def test_a_run_that_nobody_has_begun_is_missing(tmp_path):
    found = find_status(RunFolder(tmp_path / "none"), None, CONFIG, {}, {})
    assert (found.state, found.remaining, found.log) == ("missing", 1.0, None)


def test_a_finished_run_shows_its_result(folder):
    write_record(folder, "finished", results={"valid/perplexity": 113.857, "test/perplexity": 110.56})
    assert (where(folder).state, where(folder).detail) == ("finished", "valid 113.86 test 110.56")
    assert where(folder).remaining == 0


def test_a_folder_with_another_configuration_is_stale(folder):
    other = as_dict(compose_run([*SMALL, "optimizer.lr=2"]))
    folder.record.write_text(json.dumps({"config": other, "status": "finished", "data_sha256": ""}))
    assert where(folder).state == "stale"
    assert "optimizer.lr" in where(folder).detail


def test_what_does_not_decide_the_result_makes_no_run_stale(folder):
    folder.record.write_text(
        json.dumps({"config": {**CONFIG, "threads": 7, "device": "cuda"}, "status": "running", "data_sha256": ""})
    )
    assert where(folder).state == "missing"


def test_a_stopped_run_is_missing_and_knows_what_is_left(folder):
    write_record(folder, "stopped")
    rows = [{"step": k, "epoch": k, "valid/loss": 1.0} for k in (1, 2, 3)]
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"torn')
    found = where(folder)
    assert (found.state, found.remaining) == ("missing", 0.25)
    assert found.detail == "stopped in epoch 4 of 4, resumes from there"


def test_a_run_that_holds_its_lock_is_running_whatever_the_queue_says(folder):
    write_record(folder, "running")
    with RunLock(folder.lock):
        assert where(folder, queue={folder.path.name: "queued Priority"}).state == "running"
    assert where(folder).state == "missing"


def test_a_job_that_waits_is_queued_with_slurms_reason(folder):
    found = where(folder, queue={folder.path.name: "queued Resources"})
    assert (found.state, found.detail) == ("queued", "Resources")


def test_a_failed_run_tells_its_error_until_it_is_sent_again(folder):
    write_record(folder, "failed", error="The loss became nan.")
    assert (where(folder).state, where(folder).detail) == ("failed", "The loss became nan.")
    assert where(folder, queue={folder.path.name: "queued"}).state == "queued"


def test_a_run_that_was_given_up_is_failed(folder):
    write_record(folder, "running")
    (folder.path / "attempts.json").write_text(json.dumps({"error": "Given up: it was killed.", "open": False}))
    assert (where(folder).state, where(folder).detail) == ("failed", "Given up: it was killed.")


def test_a_job_that_died_before_the_run_began_is_failed_with_its_last_words(folder):
    write_submission(folder, f"bash: modul: command not found\n{EXIT_LINE}127\n")
    found = where(folder)
    assert found.state == "failed"
    assert found.log is not None
    assert "12_0" in found.detail
    assert "modul: command not found" in found.detail


def test_slurms_word_for_how_a_job_ended_counts_where_there_is_accounting(folder):
    write_submission(folder, "python: error while loading\n")
    assert where(folder).state == "missing"
    assert where(folder, ended={"12_0": "CANCELLED"}).state == "missing"
    assert where(folder, ended={"12_0": "NODE_FAIL"}).state == "missing"
    found = where(folder, ended={"12_0": "OUT_OF_MEMORY"})
    assert found.state == "failed"
    assert "OUT_OF_MEMORY" in found.detail


def test_a_record_that_is_no_record_counts_as_none(folder):
    folder.record.write_text("[]")
    assert where(folder).state == "missing"

"""What brings one run to its end, with real processes that are really killed."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from launch_helpers import LONG, SMALL, id_of, record_of, rows_of, start_job, wait_until

from launch.job import KILLS_WITHOUT_PROGRESS, Attempts, JobFiles, last_error
from sparse_rnn.core.lock import RunLock

pytestmark = pytest.mark.processes


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of the long run when nobody disturbs it."""
    folder = tmp_path_factory.mktemp("undisturbed") / id_of(*LONG)
    assert start_job(folder, LONG).wait(120) == 0
    return str(record_of(folder)["digest"])


def training_process(supervisor: int) -> psutil.Process:
    """The process that trains, once there is one."""
    return wait_until(lambda: next(iter(psutil.Process(supervisor).children()), None))


def starts_of(folder: Path) -> int:
    """How often training was started."""
    log = folder / "log.txt"
    return log.read_text().count("--- 2") if log.exists() else 0


def test_a_killed_training_process_is_started_again_and_nothing_is_lost(tmp_path, undisturbed):
    folder = tmp_path / id_of(*LONG)
    job = start_job(folder, LONG)
    wait_until(lambda: rows_of(folder) > 5)
    training_process(job.pid).kill()
    assert job.wait(120) == 0
    assert record_of(folder)["digest"] == undisturbed
    assert starts_of(folder) == 2
    assert json.loads((folder / "attempts.json").read_text())["error"] is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2])
def test_a_signal_to_both_processes_stops_once_the_run_has_saved(tmp_path, undisturbed, number):
    folder = tmp_path / id_of(*LONG)
    job = start_job(folder, LONG)
    wait_until(lambda: rows_of(folder) > 5)
    training_process(job.pid).send_signal(number)  # as SLURM does: to every process of the step
    job.send_signal(number)
    assert job.wait(60) > 128
    assert record_of(folder)["status"] == "stopped"
    assert start_job(folder, LONG).wait(120) == 0
    assert record_of(folder)["digest"] == undisturbed


def test_a_signal_before_training_has_begun_ends_it_at_once(tmp_path):
    folder = tmp_path / id_of(*LONG)
    job = start_job(folder, LONG)
    training_process(job.pid)
    job.send_signal(signal.SIGUSR2)
    assert job.wait(60) > 128
    assert not json.loads((folder / "attempts.json").read_text())["error"]


def test_a_run_that_fails_by_itself_is_not_started_again(tmp_path):
    overrides = [*SMALL, "optimizer.lr=1e30", "training.clip=null"]
    folder = tmp_path / id_of(*overrides)
    assert start_job(folder, overrides).wait(60) == 1
    attempts = json.loads((folder / "attempts.json").read_text())
    assert attempts["error"] == record_of(folder)["error"]
    assert "became" in attempts["error"]
    assert starts_of(folder) == 1


def test_a_run_whose_data_are_missing_leaves_its_sentence(tmp_path):
    folder = tmp_path / "some-run"
    overrides = ["dataset=text", "dataset.train=/nonesuch", "dataset.valid=/nonesuch", "dataset.test=/nonesuch"]
    assert start_job(folder, [*overrides, "budget=smoke"]).wait(60) == 2
    assert "nonesuch" in json.loads((folder / "attempts.json").read_text())["error"]


def test_a_run_that_somebody_works_on_is_left_alone(tmp_path, monkeypatch):
    monkeypatch.setattr("sparse_rnn.core.lock.HEARTBEAT_SECONDS", 0.1)
    folder = tmp_path / id_of(*LONG)
    folder.mkdir()
    with RunLock(folder / "run.lock"):
        assert start_job(folder, LONG).wait(60) == 3
    assert not (folder / "log.txt").exists()
    assert not (folder / "attempts.json").exists()


def test_killed_too_often_without_a_new_checkpoint_is_given_up(tmp_path):
    attempts = Attempts(JobFiles(tmp_path))
    for _ in range(KILLS_WITHOUT_PROGRESS):
        assert attempts.begin()
    assert not attempts.begin()
    assert "killed 5 times" in json.loads((tmp_path / "attempts.json").read_text())["error"]


def test_a_new_checkpoint_makes_kills_count_from_the_start(tmp_path):
    attempts = Attempts(JobFiles(tmp_path))
    for start in range(3 * KILLS_WITHOUT_PROGRESS):
        checkpoint = tmp_path / "checkpoint.pt"
        checkpoint.touch()
        os.utime(checkpoint, ns=(start, start))
        assert attempts.begin()
    attempts.end()
    assert attempts.begin()


def test_a_process_that_crashes_again_and_again_is_given_up(tmp_path):
    folder = tmp_path / id_of(*LONG)
    job = start_job(folder, LONG)
    for start in range(KILLS_WITHOUT_PROGRESS):
        wait_until(lambda start=start: starts_of(folder) > start)
        training_process(job.pid).send_signal(signal.SIGSEGV)
    assert job.wait(60) == 1
    assert "killed 5 times" in json.loads((folder / "attempts.json").read_text())["error"]


def test_the_error_of_a_log_is_its_last_sentence(tmp_path):
    log = tmp_path / "log.txt"
    log.write_text("epoch 1\nerror: first.\nerror: The loss became nan.\nwandb: done\n\n")
    assert last_error(log) == "The loss became nan."
    log.write_text("--- 1\nerror: The loss became nan.\n--- 2\nTraceback\nImportError: no torch\n")
    assert last_error(log) == "ImportError: no torch"


def test_what_is_imported_before_training_is_light():
    code = "import sys, launch.job; print(sorted({'torch', 'hydra', 'wandb', 'numpy'} & set(sys.modules)))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found == "[]\n"


def test_folder_names_are_those_of_the_run(tmp_path: Path):
    files = JobFiles(tmp_path)
    assert {path.name for path in (files.submission, files.attempts, files.log)} == {
        "submission.json",
        "attempts.json",
        "log.txt",
    }

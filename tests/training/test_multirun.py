"""Hydra's multirun through submitit, in real processes of this machine."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from run_helpers import Train, folder_of, lines_in, record_of, wait_until
from submitit.core.utils import UncompletedJobError

from sparse_rnn.config.compose import register_schemas
from sparse_rnn.config.launchers import register_launchers
from sparse_rnn.core.conf import config_dir
from sparse_rnn.core.errors import RunFailed
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.training.sweep import jobs_without_result

pytestmark = pytest.mark.processes

LONG = ["logger=files", "training.epochs=40", "checkpoint.every_minutes=1000"]


class Multirun:
    """One command, started in the background."""

    def __init__(self, root: Path, *arguments: str) -> None:
        self.output = root.with_name("multirun.output")
        command = [sys.executable, "-m", "sparse_rnn.train", "-m", "hydra/launcher=submitit_local", *arguments]
        with self.output.open("wb") as stream:
            self.process = subprocess.Popen(command, stdout=stream, stderr=stream, start_new_session=True)

    def ended(self) -> tuple[int, list[str]]:
        """The exit code and the lines of its output."""
        return self.process.wait(60), self.output.read_text().splitlines()


@pytest.fixture
def started() -> Iterator[list[Multirun]]:
    """Commands, of which nothing is left behind."""
    commands: list[Multirun] = []
    yield commands
    for each in commands:
        with suppress(ProcessLookupError):
            os.killpg(each.process.pid, signal.SIGKILL)
        each.process.wait()


def holder_of(folder: RunFolder) -> int:
    """The process that trains a run, once its first row is written."""
    wait_until(lambda: lines_in(folder.metrics))
    return int(json.loads(folder.lock.read_text())["pid"])


def log_of(root: Path) -> str:
    """What the only job has said."""
    (log,) = (root / ".launch" / "submitit").glob("*/*_log.out")
    return log.read_text()


def test_runs_that_finish_and_one_that_fails(tiny: list[str], root: Path, started: list[Multirun]) -> None:
    overrides = [*tiny, "logger=files"]
    started.append(Multirun(root, *overrides, "optimizer.lr=10,20,1e30"))
    code, said = started[0].ended()
    assert code == 1
    assert said[-1].startswith("error: ")
    assert "Traceback" not in "".join(said)
    records = [record_of(folder_of([*overrides, f"optimizer.lr={lr}"], root)) for lr in ("10", "20", "1e30")]
    assert [record["status"] for record in records] == ["finished", "finished", "failed"]
    failed = folder_of([*overrides, "optimizer.lr=1e30"], root).path
    assert said[-1].endswith(f" optimizer.lr=1e+30 ({failed}): {records[-1]['error']}")
    listed = [line.split() for line in said[said.index("3 runs, 2 finished:") + 1 :][:3]]
    assert [(line[0], line[1]) for line in listed] == [("lr=10", "valid"), ("lr=20", "valid"), ("lr=1e+30", "failed")]
    assert len(list((root / ".launch" / "submitit").glob("*/*_result.pkl"))) == 3


def test_a_wrong_configuration_in_a_job_is_usage(tiny: list[str], root: Path, started: list[Multirun]) -> None:
    started.append(Multirun(root, *tiny, "logger=files", "seed=-1"))
    code, said = started[0].ended()
    assert code == 2
    assert said[-1].startswith("error: ")
    assert said[-1].endswith(" seed=-1: seed=-1 must not be negative.")


def test_a_job_told_to_queue_again_saves_and_resumes(
    tiny: list[str], root: Path, train_here: Train, monkeypatch: pytest.MonkeyPatch, started: list[Multirun]
) -> None:
    overrides = [*tiny, *LONG]
    undisturbed, folder = train_here(overrides, "undisturbed"), folder_of(overrides, root)
    monkeypatch.setenv("SPARSE_RNN_RUNS", str(root))
    started.append(Multirun(root, *overrides))
    first = holder_of(folder)
    os.kill(first, signal.SIGTERM)  # ignored by submitit: SLURM would kill the job later
    wait_until(lambda: "Bypassing signal SIGTERM" in log_of(root))
    os.kill(first, signal.SIGUSR2)
    code, said = started[0].ended()
    assert (code, said[0]) == (0, "1 run, 1 finished:")
    assert "Requeued job" in log_of(root)
    assert "Resuming after step " in log_of(root)
    assert record_of(folder)["digest"] == record_of(undisturbed)["digest"]


def test_a_job_that_is_killed_is_one_sentence() -> None:
    trace = "Job 7 (task: 0) with path 7_0_result.pkl\nhas not produced any output\n----\nKilled"
    sentence = r"^A job came to no result: Job 7 .* path 7_0_result.pkl\.$"
    with pytest.raises(RunFailed, match=sentence), jobs_without_result():
        raise UncompletedJobError(trace)


def test_settings_of_slurm(root: Path) -> None:
    """Started with SIGUSR2 ignored, and queued again as often as it takes."""
    register_schemas()
    register_launchers()
    GlobalHydra.instance().clear()
    chosen = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu", "hydra.launcher.gpus_per_node=1"]
    with initialize_config_dir(str(config_dir()), version_base="1.3"):
        launcher: Any = compose("config", chosen, return_hydra_config=True).hydra.launcher
    assert launcher.srun_args == ["env", "--ignore-signal=USR2"]
    assert launcher.max_num_timeout >= 100
    assert launcher.submitit_folder == f"{root}/.launch/submitit/%j"
    assert (launcher.partition, launcher.gpus_per_node) == ("gpu", 1)

"""Runs that share a SLURM job, without SLURM: their fates, the job's exit code, and what is sent and cancelled."""

import json
import os
import re
import signal
import time
from pathlib import Path

import pytest
from fake_training import replace_training, starts_of

from launch import slurm, slurm_task
from launch.clusters import SlurmCluster
from launch.states import find_status
from sparse_rnn.runs.folder import RunFolder

SENT = 1000.0


@pytest.fixture
def task(tmp_path, monkeypatch):
    """A function that performs the task of these runs, lines of shell by name, and returns its exit code."""
    replace_training(tmp_path, monkeypatch)
    monkeypatch.setattr(slurm_task, "SECONDS_BETWEEN_LOOKS", 0.05)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)}

    def perform(has_gpus: bool = True, **runs: str) -> int:
        try:
            slurm_task.slurm_task([(str(tmp_path / name), [line]) for name, line in runs.items()], SENT, has_gpus)
        except SystemExit as end:
            return int(str(end.code))
        return 0

    yield perform
    for number, handler in handlers.items():
        signal.signal(number, handler)


def starts(root: Path, *names: str) -> list[int]:
    return [starts_of(root / name) for name in names]


def write_submission(root: Path, name: str, **facts: object) -> None:
    (root / name).mkdir(exist_ok=True)
    submission = {"cluster": "slurm", "job": "7_0", "together": ["a", "b"], "submitted": SENT}
    (root / name / "submission.json").write_text(json.dumps({**submission, **facts}))


def test_one_fails_and_the_other_finishes_and_neither_is_started_again(task, tmp_path):
    wait = "while [ ! -e a/log.txt ]; do sleep 0.02; done; sleep 0.1; echo done"
    runs = {"a": "echo 'error: The loss became nan.'; exit 1", "b": wait}
    assert task(**runs) == 1
    assert "done" in (tmp_path / "b" / "log.txt").read_text()
    assert json.loads((tmp_path / "a" / "attempts.json").read_text())["error"] == "The loss became nan."
    assert task(**runs) == 0
    assert starts(tmp_path, "a", "b") == [1, 1]


def test_a_job_without_a_gpu_hides_those_of_its_node(task, tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    show = 'echo "GPUs: <$CUDA_VISIBLE_DEVICES>"'
    assert task(a=show) == 0
    assert task(has_gpus=False, b=show) == 0
    assert "GPUs: <0>" in (tmp_path / "a" / "log.txt").read_text()
    assert "GPUs: <>" in (tmp_path / "b" / "log.txt").read_text()


@pytest.mark.parametrize(("end", "code"), [("kill -USR2 $$", 128 + signal.SIGUSR2), ("exit 4", 4)])
def test_what_is_unfinished_has_the_job_queued_again_and_goes_on_alone(task, tmp_path, end, code):
    runs = {"a": "exit 1", "b": f"echo >> b/starts; [ $(wc -l < b/starts) -gt 1 ] || {end}", "c": "exit 0"}
    assert task(**runs) == code
    assert task(**runs) == 0
    assert starts(tmp_path, "a", "b", "c") == [1, 2, 1]


def test_a_killed_run_is_started_again_beside_the_other(task, tmp_path):
    die_once = "echo >> a/starts; [ $(wc -l < a/starts) -gt 1 ] || kill -KILL $$"
    assert task(a=die_once, b="while [ ! -e a/starts ]; do sleep 0.02; done") == 0
    assert starts(tmp_path, "a", "b") == [2, 1]


def test_a_run_that_others_work_on_is_left_to_them(task, tmp_path):
    assert task(a="exit 3", b="exit 0") == 0
    assert starts(tmp_path, "a", "b") == [1, 1]


def test_a_run_that_cannot_be_supervised_is_nothing_to_the_other(task, tmp_path, capfd):
    (tmp_path / "a").touch()  # in place of its folder
    assert task(a="exit 0", b="exit 0") == 1
    assert starts(tmp_path, "b") == [1]
    assert "FileExistsError" in capfd.readouterr().err


def test_a_cancelled_run_saves_and_stays_away_while_the_other_goes_on(task, tmp_path):
    write_submission(tmp_path, "a")
    marked = tmp_path / "a" / "marked.json"
    marked.write_text(json.dumps({"job": "7_0", "cancelled": True, "submitted": SENT}))
    waits = "trap 'echo > a/saved; exit 143' TERM; echo > a/begun; while :; do sleep 0.02; done"
    cancels = (
        "while [ ! -e a/begun ]; do sleep 0.02; done; mv a/marked.json a/submission.json;"
        "while [ ! -e a/saved ]; do sleep 0.02; done; echo went on"
    )
    assert task(a=waits, b=cancels) == 0
    assert "went on" in (tmp_path / "b" / "log.txt").read_text()
    assert task(a=waits) == 0
    assert starts(tmp_path, "a") == [1]


def test_a_run_that_was_sent_again_belongs_to_the_later_job(task, tmp_path):
    write_submission(tmp_path, "a", submitted=SENT + 1, job="8_0")
    write_submission(tmp_path, "b", submitted=SENT - 1, job="6_0")  # this job's is not written yet
    assert task(a="exit 1", b="exit 0") == 0
    assert starts(tmp_path, "a", "b") == [0, 1]


@pytest.fixture
def batch_scripts(tmp_path, monkeypatch):
    """A function that sends runs to an sbatch that only keeps the scripts; it returns these."""
    programs, kept = tmp_path / "bin", tmp_path / "scripts"
    programs.mkdir()
    kept.mkdir()
    (programs / "sbatch").write_text(
        f'#!/bin/sh\nn=$(ls {kept} | wc -l)\ncp "$1" {kept}/$n\necho Submitted batch job $((40 + n))\n'
    )
    (programs / "srun").write_text("#!/bin/sh\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")

    def send(cluster: SlurmCluster, *names: str, model: str = "rhn") -> list[str]:
        list(slurm.submit([(name, [f"of={name}"], model) for name in names], cluster, tmp_path))
        return [(kept / str(n)).read_text() for n in range(len(list(kept.iterdir())))]

    return send


def asked(script: str) -> dict[str, str]:
    return dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", script, flags=re.MULTILINE))


def test_runs_share_jobs_that_have_enough_for_all_of_them(batch_scripts, tmp_path):
    cluster = SlurmCluster(gpus=1, runs_per_gpu=3, cpus=2, memory_gb=4.5)
    whole, rest = (asked(script) for script in batch_scripts(cluster, *"abcdefgh"))
    assert (whole["array"], whole["gpus-per-node"]) == ("0-1%2", "1")
    assert (whole["cpus-per-task"], whole["mem"]) == ("6", "13824M")
    assert "array" not in rest
    assert (rest["cpus-per-task"], rest["mem"], rest["gpus-per-node"]) == ("4", "9216M", "1")
    submissions = {name: json.loads((tmp_path / name / "submission.json").read_text()) for name in "abcdefgh"}
    assert [facts["job"] for facts in submissions.values()] == ["40_0"] * 3 + ["40_1"] * 3 + ["41"] * 2
    assert submissions["e"]["together"] == ["d", "e", "f"]
    assert submissions["e"]["overrides"] == ["of=e"]


@pytest.fixture
def cancelled_jobs(monkeypatch):
    """What `scancel` was given, where the queue holds the jobs 7_0 and 8_0."""
    given: list[str] = []
    monkeypatch.setattr(slurm, "_squeue", lambda: {"7_0": "running", "8_0": "queued"})
    monkeypatch.setattr(slurm, "_run", lambda command: given.extend(command[1:]))
    return given


def where(root: Path, name: str) -> str:
    jobs = slurm.submitted(root, [name])
    return find_status(RunFolder(root / name), None, None, slurm.queue(jobs), {}).state


def test_cancelling_one_run_leaves_the_job_to_the_other(tmp_path, cancelled_jobs):
    write_submission(tmp_path, "a")
    write_submission(tmp_path, "b")
    assert slurm.cancel(["a"], tmp_path) == ["a"]
    assert cancelled_jobs == []
    assert (where(tmp_path, "a"), where(tmp_path, "b")) == ("missing", "running")
    assert slurm.cancel(["a"], tmp_path) == []
    assert slurm.cancel(["b"], tmp_path) == ["b"]
    assert cancelled_jobs == ["7_0"]


def test_a_job_is_cancelled_once_nobody_needs_it(tmp_path, cancelled_jobs):
    for name in "ab":
        write_submission(tmp_path, name)
    assert slurm.cancel(["a", "b"], tmp_path) == ["a", "b"]
    assert cancelled_jobs == ["7_0"]


@pytest.mark.parametrize(
    "attempts", [{"open": False, "finished": True, "error": None}, {"open": False, "error": "The loss became nan."}]
)
def test_a_run_that_is_over_does_not_keep_the_job(tmp_path, cancelled_jobs, attempts):
    write_submission(tmp_path, "a")
    write_submission(tmp_path, "b")
    (tmp_path / "b" / "attempts.json").write_text(json.dumps(attempts))
    assert slurm.cancel(["a", "b"], tmp_path) == ["a"]
    assert cancelled_jobs == ["7_0"]


def test_a_failed_run_is_failed_while_the_other_goes_on(tmp_path, cancelled_jobs):
    write_submission(tmp_path, "a")
    write_submission(tmp_path, "b")
    (tmp_path / "a" / "attempts.json").write_text(json.dumps({"open": False, "error": "The loss became nan."}))
    assert (where(tmp_path, "a"), where(tmp_path, "b")) == ("failed", "running")


def test_a_run_cancelled_before_it_began_is_missing_whatever_its_job_says(tmp_path, cancelled_jobs):
    log = tmp_path / "job.out"
    log.write_text("launch: the job ended with exit code 1\n")
    write_submission(tmp_path, "a", log=str(log), cancelled=True, submitted=time.time())
    assert where(tmp_path, "a") == "missing"

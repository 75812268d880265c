"""What a real SLURM cluster takes and refuses, and what `launch` says of it: failed, cancelled, queued once."""

import json
import os
import subprocess
import sys

import pytest
from slurm_sweep import ONE, SMALL, SOME_SECONDS, Sweep, all_finished, until

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id


def test_a_run_that_fails_by_itself_is_sent_again_only_when_asked_to(slurm, sweep):
    runs = sweep("training.epochs=4", 1)
    runs.overrides += ["optimizer.lr=1e30", "training.clip=null"]
    runs.ids = [run_id(compose_run([*runs.overrides, "seed=1"]))]
    assert runs.submit().returncode == 0
    until(slurm, lambda: runs.states() == {runs.ids[0]: "failed"}, "it has failed")
    slurm.wait_until_empty(60)
    assert runs.starts(0) == 1
    again = runs.submit()
    assert "1 failed; 0 sent." in again.stdout
    assert "--retry" in again.stdout
    plan = runs.launch("plan").stdout
    assert "became" in plan
    assert str(runs.root / runs.ids[0] / "log.txt") in plan
    assert "1 sent" in runs.submit("--retry").stdout
    slurm.wait_until_empty(60)
    assert runs.starts(0) == 2
    assert runs.states() == {runs.ids[0]: "failed"}


def test_cancelled_runs_save_stay_away_and_go_on_when_sent_again(slurm, sweep):
    runs = sweep(SOME_SECONDS, 2)
    runs.begin_elsewhere()
    stranger = slurm.submit("sleep 600", "--job-name=somebody-else")
    assert runs.submit("cluster.parallel=1").returncode == 0
    until(slurm, lambda: runs.rows(0) > 5, "the first run trains")
    assert sorted(runs.states().values()) == ["queued", "running"]
    assert "give --yes" in runs.launch("cancel").stderr
    assert "2 of 2 cancelled" in runs.launch("cancel", "--yes").stdout
    until(slurm, lambda: list(slurm.queue()) == [stranger], "only the stranger's job is left")
    until(slurm, lambda: list(runs.states().values()) == ["missing"] * 2, "both can be sent again")
    assert "resumes from there" in runs.launch("plan").stdout
    assert "2 sent" in runs.submit().stdout
    all_finished_but(slurm, runs, stranger)
    assert runs.digests() == runs.undisturbed()


def all_finished_but(slurm, runs: Sweep, stranger: str) -> None:
    until(slurm, lambda: set(runs.states().values()) == {"finished"}, "all finished", 240)
    slurm.run("scancel", stranger)


def test_without_accounting(slurm, sweep):
    runs = sweep("training.epochs=4", 2)
    with slurm.without_accounting():
        assert runs.submit("cluster.setup=['exit 7']").returncode == 0
        slurm.wait_until_empty(60)
        assert list(runs.states().values()) == ["failed"] * 2  # by what the batch script said last
        assert "0 sent" in runs.submit().stdout
        assert runs.submit("--retry").returncode == 0
        assert set(runs.states().values()) <= {"queued", "running"}
        all_finished(slurm, runs)


def test_a_job_that_ends_before_the_run_begins_is_failed_in_slurms_words(slurm, sweep):
    runs = sweep("training.epochs=4", 1)
    assert runs.submit("cluster.setup=['echo no such module >&2; exit 7']").returncode == 0
    slurm.wait_until_empty(60)
    until(slurm, lambda: runs.states() == {runs.ids[0]: "failed"}, "accounting knows that it failed")
    assert "no such module" in runs.launch("plan").stdout
    assert "0 sent" in runs.submit().stdout
    assert "1 sent" in runs.submit("--retry").stdout
    all_finished(slurm, runs)


@pytest.mark.parametrize(
    ("refused", "words"),
    [
        ("cluster.partition=nonesuch", "invalid partition specified: nonesuch"),
        ("cluster.memory_gb=100000", "Memory specification can not be satisfied"),
        ("cluster.sbatch.nonesuch=1", "unrecognized option '--nonesuch=1'"),
    ],
)
def test_what_slurm_refuses_is_told_in_its_own_words_and_leaves_nothing(slurm, sweep, refused, words):
    runs = sweep("training.epochs=4", 3)
    asked = runs.submit(refused)
    assert asked.returncode == 2
    assert words in asked.stderr
    assert asked.stderr.count("\n") == 1
    assert list(runs.root.glob("*/submission.json")) == []
    assert list((runs.root / ".launch" / "slurm").glob("*.pkl")) == []


def test_a_full_queue_takes_what_fits_and_asking_again_goes_on(slurm, sweep):
    runs = sweep("training.epochs=4", 5)
    with slurm.submit_limit(4):
        asked = runs.submit("cluster.array=2", "cluster.sbatch.hold=true")
        assert asked.returncode == 2
        assert "AssocMaxSubmitJobLimit" in asked.stderr
        assert "did not take 1 of 5 runs" in asked.stderr
        assert asked.stderr.count("\n") == 1
        assert len(slurm.queue()) == 4
    assert "1 sent" in runs.submit().stdout
    slurm.run("scontrol", "release", *{job.partition("_")[0] for job in slurm.queue()})
    all_finished(slurm, runs)


def test_there_is_an_array_for_each_set_of_resources(slurm, tmp_path):
    environment = os.environ | {"SPARSE_RNN_RUNS": str(tmp_path / "runs")}
    line = [sys.executable, "-m", "launch", "submit", "--sweep", "model=rhn,stacked_lstm seed=1,2", *SMALL, *ONE]
    line += ["cluster.models.rhn={memory_gb: 2, cpus: 2}", "cluster.sbatch.hold=true"]
    sent = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60)
    assert "4 sent to slurm, jobs " in sent.stdout, sent.stderr
    asked = slurm.run("squeue", "-hr", "-o", "%i %c %m").splitlines()
    arrays = {(job.partition("_")[0], cpus, memory) for job, cpus, memory in map(str.split, asked)}
    assert len(asked) == 4
    assert sorted((cpus, memory) for _, cpus, memory in arrays) == [("1", "1G"), ("2", "2G")]
    submissions = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/submission.json")]
    threads = {tuple(o for o in each["overrides"] if o[:5] in ("model", "threa")) for each in submissions}
    assert threads == {("model=rhn", "threads=2"), ("model=stacked_lstm", "threads=1")}


def test_two_launchers_at_once_send_every_run_once(slurm, sweep):
    runs = sweep("training.epochs=4", 4)
    environment = os.environ | {"SPARSE_RNN_RUNS": str(runs.root)}
    line = [sys.executable, "-m", "launch", "submit", "--sweep", "seed=range(1,5)", *runs.overrides, *ONE]
    both = [subprocess.Popen([*line, "cluster.sbatch.hold=true"], env=environment) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert len(slurm.queue()) == 4
    slurm.run("scontrol", "release", *{job.partition("_")[0] for job in slurm.queue()})
    all_finished(slurm, runs)


def test_hydras_own_launcher_works_too(slurm, tmp_path):
    environment = os.environ | {"SPARSE_RNN_RUNS": str(tmp_path / "runs")}
    small = ["hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1", "hydra.launcher.timeout_min=5"]
    line = [sys.executable, "-m", "sparse_rnn.train", "-m", "hydra/launcher=submitit_slurm", "seed=1,2", *SMALL, *small]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/record.json")]
    assert [record["status"] for record in records] == ["finished"] * 2

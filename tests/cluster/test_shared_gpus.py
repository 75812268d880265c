"""Runs that share the GPU of a job of a real SLURM cluster, whose GPUs are empty files: the runs compute on the CPU."""

import os
import subprocess
import sys

import psutil
import pytest
from slurm_sweep import ONE, SOME_SECONDS, all_finished, until

from launch.clusters import compose_cluster
from launch.slurm import submit
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id
from sparse_rnn.core.lock import read_holder

SHARED = ["cluster.gpus=1", "cluster.runs_per_gpu=3"]


@pytest.fixture(scope="module", autouse=True)
def gpus(cluster):
    """One pretended GPU on each node, for the tests of this file."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_TEST_GPUS", "1")
        cluster.start()
        yield
    cluster.start()


def training(runs, number: int) -> psutil.Process:
    """The process that trains a run."""
    return psutil.Process(read_holder(runs.root / runs.ids[number] / "run.lock")["pid"])


def test_runs_of_one_job_fail_die_and_are_stopped_each_for_itself(slurm, sweep):
    runs = sweep(SOME_SECONDS, 2)
    runs.begin_elsewhere()
    wrong = [*runs.overrides, "optimizer.lr=1e30", "training.clip=null", "seed=1", "threads=1"]
    failing = run_id(compose_run(wrong))
    sent = [(each, [*runs.overrides, f"seed={seed}", "threads=1"], "") for seed, each in enumerate(runs.ids, 1)]
    [(array, taken)] = submit([*sent, (failing, wrong, "")], compose_cluster([*ONE, *SHARED]), runs.root)
    assert taken == [*runs.ids, failing]
    assert runs.job(0) == runs.job(1) == array
    until(slurm, lambda: runs.rows(0) > 5 and runs.rows(1) > 5, "both train at the same time")
    asked = slurm.job(array)
    assert (asked["NumCPUs"], asked["MinMemoryNode"], asked["TresPerNode"]) == ("3", "3G", "gres:gpu:1")
    assert [training(runs, number).environ()["CUDA_VISIBLE_DEVICES"] for number in (0, 1)] == ["0", "0"]
    training(runs, 0).kill()
    until(slurm, lambda: (runs.root / failing / "attempts.json").read_text().count("became"), "the third has failed")
    until(slurm, lambda: runs.starts(0) == 2, "the one that was killed is started again")
    assert runs.starts(1) == 1
    slurm.run("scancel", "--signal=USR2", array)  # as before the time limit
    until(slurm, lambda: slurm.job(array)["Restarts"] == "1", "the job is queued again")
    all_finished(slurm, runs)
    assert [runs.starts(0) > 2, runs.starts(1)] == [True, 2]
    assert runs.digests() == runs.undisturbed()
    assert (runs.root / failing / "log.txt").read_text().count("\n--- ") == 0  # after the first line


def test_one_of_two_runs_is_cancelled_and_goes_on_when_sent_again(slurm, sweep):
    runs = sweep(SOME_SECONDS, 2)
    assert runs.submit(*SHARED).returncode == 0
    until(slurm, lambda: runs.rows(0) > 5 and runs.rows(1) > 5, "both train")
    assert len(slurm.queue()) == 1
    one = [sys.executable, "-m", "launch", "cancel", "--sweep", "seed=1", *runs.overrides, "--yes"]
    environment = os.environ | {"SPARSE_RNN_RUNS": str(runs.root)}
    cancelled = subprocess.run(one, env=environment, capture_output=True, text=True, timeout=120)
    assert "1 of 1 cancelled" in cancelled.stdout, cancelled.stderr
    assert runs.states() == {runs.ids[0]: "missing", runs.ids[1]: "running"}
    again = runs.submit(*SHARED)
    assert "1 missing, 1 running; 1 sent to slurm" in again.stdout
    all_finished(slurm, runs)
    assert [runs.starts(0), runs.starts(1)] == [2, 1]


def test_a_job_without_a_gpu_sees_none(slurm, sweep):
    runs = sweep(SOME_SECONDS, 1)
    assert runs.submit().returncode == 0
    until(slurm, lambda: runs.rows(0) > 0, "it trains")
    assert training(runs, 0).environ()["CUDA_VISIBLE_DEVICES"] == ""

"""Runs on a real SLURM cluster that are stopped, killed, preempted and requeued end as undisturbed ones do."""

import json
import os
import random
import subprocess
import sys
import time
from contextlib import suppress

from slurm_sweep import HALF_A_MINUTE, ONE, SOME_SECONDS, TWO_MINUTES, all_finished, until

from launch import slurm as slurm_module
from launch.clusters import compose_cluster


def test_five_runs_of_an_array_that_are_disturbed_end_as_if_nothing_had_happened(slurm, sweep):
    """Nothing; SIGUSR2; SIGTERM to the step; SIGKILL of its processes; requeue onto another node."""
    runs = sweep(SOME_SECONDS, 5)
    runs.begin_elsewhere()
    sent = runs.submit()
    assert "5 sent to slurm, job" in sent.stdout, sent.stderr
    assert runs.submit().stdout.endswith("0 sent.\n")
    jobs = [runs.job(number) for number in range(5)]
    assert len({job.partition("_")[0] for job in jobs}) == 1
    for number, disturb in (
        (1, lambda: slurm.run("scancel", "--signal=USR2", jobs[1])),
        (2, lambda: slurm.run("scancel", "--signal=TERM", jobs[2])),
        (3, lambda: slurm.kill_task(jobs[3])),
        (4, lambda: _requeue_elsewhere(slurm, jobs[4])),
    ):
        until(slurm, lambda number=number: runs.rows(number) > 5, f"run {number} trains")
        disturb()
    all_finished(slurm, runs)
    assert [runs.starts(number) > 1 for number in range(1, 5)] == [True] * 4
    assert runs.digests() == runs.undisturbed()


def test_a_run_on_a_node_that_dies_goes_on_elsewhere(slurm, sweep):
    runs = sweep(HALF_A_MINUTE, 1)
    runs.begin_elsewhere()
    assert runs.submit().returncode == 0
    until(slurm, lambda: runs.rows(0) > 5, "the run trains")
    job = runs.job(0)
    node = slurm.job(job)["NodeList"]
    slurm.kill_node(node)
    until(slurm, lambda: slurm.job(job)["JobState"] != "RUNNING", "the dead node is noticed")
    slurm.revive_node(node)
    all_finished(slurm, runs)
    assert runs.starts(0) > 1
    assert runs.digests() == runs.undisturbed()


def _requeue_elsewhere(slurm, job: str) -> None:
    """Take the node out of service and queue the job again: it must begin on the other one."""
    node = slurm.job(job)["NodeList"]
    slurm.run("scontrol", "update", f"nodename={node}", "state=drain", "reason=test")
    slurm.run("scontrol", "requeue", job)
    until(slurm, lambda: slurm.job(job).get("NodeList") not in (node, "(null)", ""), "it runs on the other node")
    slurm.run("scontrol", "update", f"nodename={node}", "state=resume")


def test_a_run_longer_than_its_time_limit_goes_on_and_on(slurm, sweep):
    runs = sweep(TWO_MINUTES, 1)
    runs.begin_elsewhere()
    assert runs.submit("cluster.time=1", "cluster.warning=10").returncode == 0
    all_finished(slurm, runs, 400)
    assert runs.starts(0) > 1
    assert runs.digests() == runs.undisturbed()


def test_a_run_that_is_preempted_saves_and_goes_on(slurm, sweep):
    runs = sweep("training.epochs=400", 1)
    runs.begin_elsewhere()
    assert runs.submit("cluster.partition=scavenge").returncode == 0
    until(slurm, lambda: runs.rows(0) > 5, "the run trains")
    urgent = slurm.submit("sleep 2", "--partition=main", "--nodes=2", "--exclusive")
    until(slurm, lambda: urgent not in slurm.queue(), "the urgent job is over")
    all_finished(slurm, runs)
    assert runs.starts(0) > 1
    assert "saved" in (runs.root / runs.ids[0] / "log.txt").read_text()
    assert runs.digests() == runs.undisturbed()


def test_two_jobs_for_one_run_do_not_both_work_on_it(slurm, sweep):
    runs = sweep(SOME_SECONDS, 1)
    runs.begin_elsewhere()
    assert runs.submit().returncode == 0
    until(slurm, lambda: runs.rows(0) > 2, "the run trains")
    [(job, _)] = slurm_module.submit(
        [(runs.ids[0], [*runs.overrides, "seed=1", "threads=1"], "stacked_lstm")], compose_cluster(ONE), runs.root
    )
    until(slurm, lambda: job not in slurm.queue(), "the second job has left", 60)
    all_finished(slurm, runs)
    assert runs.digests() == runs.undisturbed()


def test_a_table_is_launched_by_make_and_survives_random_kills(slurm, tmp_path):
    """`make launch-table6 BUDGET=smoke CLUSTER=slurm`, with kills at random points, against CLUSTER=local."""
    draw, digests = random.Random(4), {}
    arguments = "dataset=pydoc logger=files device=cpu training.epochs=40 cluster.threads=1"
    for cluster, extra in (("slurm", " cluster.cpus=1 cluster.memory_gb=1"), ("local", " cluster.runs=2")):
        root = tmp_path / cluster
        environment = os.environ | {"SPARSE_RNN_RUNS": str(root)}
        make = ["make", "--no-print-directory", "launch-table6", "BUDGET=smoke", f"CLUSTER={cluster}"]
        sent = subprocess.run([*make, f"ARGS={arguments}{extra}"], env=environment, capture_output=True, text=True)
        assert sent.returncode == 0, sent.stderr
        if cluster == "slurm":
            _kill_at_random(slurm, draw)
        watch = [sys.executable, "-m", "launch", "status", "--watch"]
        assert subprocess.run(watch, env=environment, capture_output=True, timeout=600).returncode == 0
        records = [json.loads(path.read_text()) for path in root.glob("*/record.json")]
        digests[cluster] = {record["run_id"]: (record["status"], record.get("digest")) for record in records}
    assert len(digests["local"]) == 9
    assert {status for status, _ in digests["local"].values()} == {"finished"}
    assert digests["slurm"] == digests["local"]


def _kill_at_random(slurm, draw: random.Random) -> None:
    """Kill or signal a random job every second or so, for a while."""
    for _ in range(8):
        working = [job for job, state in slurm.queue().items() if state == "RUNNING"]
        if working:
            job, how = draw.choice(working), draw.choice(["KILL", "USR2", "TERM"])
            with suppress(RuntimeError):  # it may be over by now
                slurm.kill_task(job) if how == "KILL" else slurm.run("scancel", f"--signal={how}", job)
        time.sleep(draw.uniform(0.5, 2.0))

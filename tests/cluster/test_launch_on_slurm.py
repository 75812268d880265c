"""Runs sent to a real SLURM cluster, which is then hard on them."""

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from launch import slurm as slurm_module
from launch.plan import look
from launch.requests import parse, sent_before
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id

SMALL = ["dataset=pydoc", "budget=smoke", "logger=files", "device=cpu"]
ONE = ["cluster=slurm", "cluster.cpus=1", "cluster.memory_gb=1", "cluster.time=10"]
SOME_SECONDS = "training.epochs=240"
HALF_A_MINUTE = "training.epochs=600"
TWO_MINUTES = "training.epochs=1500"
REQUEUE = 120.0


class Sweep:
    """A sweep in a folder of its own: what it sends, what becomes of it, and what it would be undisturbed."""

    def __init__(self, root: Path, epochs: str, seeds: int) -> None:
        self.root, self.elsewhere, self.seeds = root, root.with_name("elsewhere"), seeds
        self.overrides = [*SMALL, epochs]
        self.ids = [run_id(compose_run([*self.overrides, f"seed={seed}"])) for seed in range(1, seeds + 1)]

    def launch(self, command: str, *arguments: str, root: Path | None = None) -> "subprocess.CompletedProcess[str]":
        environment = os.environ | {"SPARSE_RNN_RUNS": str(root or self.root)}
        sweep = ["--sweep", f"seed=range(1,{self.seeds + 1})", *self.overrides]
        line = [sys.executable, "-m", "launch", command, *sweep, *arguments]
        return subprocess.run(
            line, env=environment, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL
        )

    def submit(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self.launch("submit", *ONE, *arguments)

    def states(self) -> dict[str, str]:
        """The state of every run, by id, as `status` finds it."""
        entries = [entry for entry in sent_before(parse("status", []), self.root) if entry.run_id in self.ids]
        return {run_id: standing.state for run_id, standing in look(entries, self.root).standings.items()}

    def job(self, number: int) -> str:
        """The job of a run, counted from 0."""
        return str(json.loads((self.root / self.ids[number] / "submission.json").read_text())["job"])

    def rows(self, number: int) -> int:
        """How many rows of metrics a run has written."""
        path = self.root / self.ids[number] / "metrics.jsonl"
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def starts(self, number: int) -> int:
        """How often the training process of a run was started."""
        return (self.root / self.ids[number] / "log.txt").read_text().count("\n--- ") + 1

    def digests(self, root: Path | None = None) -> list[str]:
        """The digests of all runs, which are all finished."""
        records = [json.loads(((root or self.root) / run_id / "record.json").read_text()) for run_id in self.ids]
        assert {record["status"] for record in records} == {"finished"}
        return [record["digest"] for record in records]

    def begin_elsewhere(self) -> None:
        """Begin the same runs on this machine, where nobody disturbs them."""
        sent = self.launch("submit", "cluster=local", "cluster.runs=1", "cluster.threads=1", root=self.elsewhere)
        assert sent.returncode == 0, sent.stderr

    def undisturbed(self) -> list[str]:
        """The digests of the runs that were begun elsewhere."""
        watched = self.launch("status", "--watch", root=self.elsewhere)
        assert watched.returncode == 0, watched.stderr
        return self.digests(self.elsewhere)


@pytest.fixture
def sweep(tmp_path: Path, slurm) -> Callable[[str, int], Sweep]:
    return lambda epochs, seeds: Sweep(tmp_path / "runs", epochs, seeds)


def until(slurm, condition: Callable[[], object], wanted: str, seconds: float = REQUEUE) -> None:
    slurm.wait_until(condition, seconds, wanted)


def all_finished(slurm, sweep: Sweep, seconds: float = 240) -> None:
    until(slurm, lambda: set(sweep.states().values()) == {"finished"}, f"all finished, not {sweep.states()}", seconds)
    slurm.wait_until_empty(60)


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
    assert "say --yes" in runs.launch("cancel").stderr
    assert "2 of 2 cancelled" in runs.launch("cancel", "--yes").stdout
    until(slurm, lambda: list(slurm.queue()) == [stranger], "only the stranger's job is left")
    until(slurm, lambda: list(runs.states().values()) == ["missing"] * 2, "both can be sent again")
    assert "goes on from there" in runs.launch("plan").stdout
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


def test_two_jobs_for_one_run_do_not_both_work_on_it(slurm, sweep):
    runs = sweep(SOME_SECONDS, 1)
    runs.begin_elsewhere()
    assert runs.submit().returncode == 0
    until(slurm, lambda: runs.rows(0) > 2, "the run trains")
    [(job, _)] = slurm_module.submit(
        [(runs.ids[0], [*runs.overrides, "seed=1", "threads=1"], "stacked_lstm")], _cluster(), runs.root
    )
    until(slurm, lambda: job not in slurm.queue(), "the second job has left", 60)
    all_finished(slurm, runs)
    assert runs.digests() == runs.undisturbed()


def _cluster():
    from launch.clusters import compose_cluster

    return compose_cluster(ONE)


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


def test_hydras_own_launcher_works_too(slurm, tmp_path):
    environment = os.environ | {"SPARSE_RNN_RUNS": str(tmp_path / "runs")}
    small = ["hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1", "hydra.launcher.timeout_min=5"]
    line = [sys.executable, "-m", "sparse_rnn.train", "-m", "hydra/launcher=submitit_slurm", "seed=1,2", *SMALL, *small]
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    records = [json.loads(path.read_text()) for path in (tmp_path / "runs").glob("*/record.json")]
    assert [record["status"] for record in records] == ["finished"] * 2

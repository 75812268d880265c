"""A sweep that tests send to the SLURM cluster, and wait for."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from launch.plan import make_plan
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
        return {run_id: status.state for run_id, status in make_plan(entries, self.root).statuses.items()}

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


def until(slurm, condition: Callable[[], object], wanted: str, seconds: float = REQUEUE) -> None:
    slurm.wait_until(condition, seconds, wanted)


def all_finished(slurm, sweep: Sweep, seconds: float = 240) -> None:
    until(slurm, lambda: set(sweep.states().values()) == {"finished"}, f"all finished, not {sweep.states()}", seconds)
    slurm.wait_until_empty(60)

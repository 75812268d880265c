"""Runs on this machine, a few at a time: a queue in a file, and a worker that outlives the command that started it.

`python -m launch.local ROOT` is the worker; LocalQueue starts it. Imports nothing heavy.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

from filelock import FileLock

from launch.job import JobFiles
from sparse_rnn.core.files import read_json, write_json
from sparse_rnn.core.lock import process_start

JOB = (sys.executable, "-m", "launch.job")
POLL_SECONDS = 0.2
HANDED_ON = ("SPARSE_RNN_", "OMP_", "MKL_")


@dataclass
class State:
    """What waits, in order, and what is at work, by run_id; a process is its pid and when it started."""

    runs: int = 1
    gpus: list[str] = field(default_factory=list)
    waiting: list[dict[str, Any]] = field(default_factory=list)
    working: dict[str, dict[str, Any]] = field(default_factory=dict)
    worker: dict[str, Any] = field(default_factory=dict)

    def known(self) -> set[str]:
        """Runs that need not be added: they wait, or are at work and shall go on."""
        at_work = {run_id for run_id, job in self.working.items() if lives(job) and not job["cancelled"]}
        return at_work | {job["run_id"] for job in self.waiting}

    def next_job(self) -> dict[str, Any] | None:
        """Take the first job that may start now; one that was cancelled and added again waits for its end."""
        if len(self.working) < self.runs:
            for index, job in enumerate(self.waiting):
                if job["run_id"] not in self.working:
                    return self.waiting.pop(index)
        return None

    def free_gpu(self) -> str | None:
        """The GPU with the fewest jobs; None if there are none to share out."""
        taken = [job["gpu"] for job in self.working.values()]
        return min(self.gpus, key=taken.count, default=None)

    def stop(self, run_ids: Iterable[str]) -> list[str]:
        """Send SIGTERM to jobs, once only; returns their runs."""
        stopped = []
        for run_id in run_ids:
            job = self.working.get(run_id, {})
            if job and lives(job) and not job["cancelled"]:
                with suppress(ProcessLookupError):
                    os.kill(job["pid"], signal.SIGTERM)
                job["cancelled"] = True
                stopped.append(run_id)
        return stopped


def identity(pid: int) -> dict[str, Any]:
    """What tells a process from a later one of the same pid."""
    return {"pid": pid, "started": process_start(pid)}


def lives(process: dict[str, Any]) -> bool:
    """Whether a process is still there."""
    return bool(process) and process_start(process["pid"]) == process["started"] != ""


class LocalQueue:
    """The queue of this machine for the runs below `root`. job: the command of a job, before folder and overrides."""

    def __init__(self, root: Path, job: Sequence[str] = JOB) -> None:
        self.root, self._job = root.absolute(), tuple(job)
        self.folder = self.root / ".launch" / "local" / socket.gethostname()
        self._file = self.folder / "queue.json"

    def add(self, jobs: Sequence[tuple[str, Sequence[str]]], *, runs: int, gpus: Sequence[str] = ()) -> None:
        """Append (run_id, overrides), those that are not there yet, and see to it that a worker lives.

        runs: at a time; gpus: one for each of them, by CUDA_VISIBLE_DEVICES. Both count for all that waits.
        """
        variables = {key: value for key, value in os.environ.items() if key.startswith(HANDED_ON)}
        with self.change() as state:
            state.runs, state.gpus = runs, list(gpus)
            if not lives(state.worker):
                state.waiting = []  # nobody has seen them since their worker died: they count as missing
            known = state.known()
            for run_id, overrides in jobs:
                if run_id not in known:
                    job = {"run_id": run_id, "overrides": list(overrides), "folder": os.getcwd()}
                    state.waiting.append({**job, "variables": variables})
                    known.add(run_id)
            if state.waiting and not lives(state.worker):
                state.worker = identity(self._start_worker())

    def states(self) -> dict[str, str]:
        """ "queued" or "running" by run_id; what waits counts only while a worker lives."""
        state = self._read()
        waiting = {job["run_id"]: "queued" for job in state.waiting if lives(state.worker)}
        return waiting | {run_id: "running" for run_id, job in state.working.items() if lives(job)}

    def cancel(self, run_ids: Iterable[str]) -> list[str]:
        """Forget those that wait, let those at work save and end; returns the runs it ended."""
        wanted = set(run_ids)
        with self.change() as state:
            forgotten = [job["run_id"] for job in state.waiting if job["run_id"] in wanted]
            state.waiting = [job for job in state.waiting if job["run_id"] not in wanted]
            return [*forgotten, *(run_id for run_id in state.stop(sorted(wanted)) if run_id not in forgotten)]

    @contextmanager
    def change(self) -> Iterator[State]:
        """The state, for changes that nobody else makes at the same time; it is written if it was changed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "queue.lock"):
            state = self._read()
            before = repr(state)
            try:
                yield state
            finally:
                if repr(state) != before:
                    write_json(self._file, asdict(state))

    def _read(self) -> State:
        return State(**read_json(self._file))

    def _start_worker(self) -> int:
        """A process with no terminal: it goes on when the user has logged out. Returns its pid."""
        command = [sys.executable, "-m", "launch.local", str(self.root), *self._job]
        with (self.folder / "worker.log").open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            ).pid


class Worker:
    """Starts jobs in order, as many at a time as the queue says, until nothing is left.

    Jobs that a killed worker has left behind count among them. SIGTERM stops the jobs; what waits is forgotten.
    """

    def __init__(self, root: Path, job: Sequence[str] = JOB) -> None:
        self._queue, self._job = LocalQueue(root, job), tuple(job)
        self._children: list[subprocess.Popen[bytes]] = []
        self._told_to_end = False

    def work(self) -> None:
        """To the end; at once if another worker is there."""
        signal.signal(signal.SIGTERM, self._end)
        with self._queue.change() as state:
            if lives(state.worker) and state.worker["pid"] != os.getpid():
                return
            state.worker = identity(os.getpid())
        while self._turn():
            time.sleep(POLL_SECONDS)
        for child in self._children:
            child.wait()

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._told_to_end = True

    def _turn(self) -> bool:
        """Note what has ended and start what may start; returns whether there is more to do.

        The queue knows that the worker ends before anybody can add to it again: whoever adds then starts another.
        """
        self._children = [child for child in self._children if child.poll() is None]
        with self._queue.change() as state:
            state.working = {run_id: job for run_id, job in state.working.items() if lives(job)}
            while not self._told_to_end and (job := state.next_job()):
                self._start(job, state)
            if self._told_to_end:
                state.stop(list(state.working))
            if self._told_to_end or not (state.waiting or state.working):
                state.worker = {}
        return bool(state.worker)

    def _start(self, job: dict[str, Any], state: State) -> None:
        """Start a job in a session of its own: a signal to the worker's group must not reach it a second time."""
        gpu = state.free_gpu()
        environment = os.environ | job["variables"] | ({} if gpu is None else {"CUDA_VISIBLE_DEVICES": gpu})
        command = [*self._job, str(self._queue.root / job["run_id"]), *job["overrides"]]
        try:
            child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, cwd=job["folder"], env=environment, start_new_session=True
            )
        except OSError as error:
            files = JobFiles(self._queue.root / job["run_id"])
            files.folder.mkdir(parents=True, exist_ok=True)
            write_json(files.attempts, {"error": f"It could not be started: {error}."})
            return
        self._children.append(child)
        state.working[job["run_id"]] = {**identity(child.pid), "gpu": gpu, "cancelled": False}


if __name__ == "__main__":
    Worker(Path(sys.argv[1]), sys.argv[2:] or JOB).work()

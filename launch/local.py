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
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import FrameType
from typing import Any, TypedDict

from filelock import FileLock

from sparse_rnn.core.files import write_json
from sparse_rnn.core.processes import process_start
from sparse_rnn.core.reading import read_facts

from .job import JobFiles

# By the package's name, which is launch in a checkout and sparse_rnn.launch in an installation.
JOB = (sys.executable, "-m", f"{__package__}.job")
WORKER = (sys.executable, "-m", f"{__package__}.local")
POLL_SECONDS = 0.2
PASSED_ON = ("SPARSE_RNN_", "OMP_", "MKL_", "PYTHONPATH")  # variables of the command that sent a job, not the worker's


class Process(TypedDict, total=False):
    """A process, as `describe_process` gives it; empty for none."""

    pid: int
    started: str


class Working(TypedDict):
    """A job that was started."""

    pid: int
    started: str
    gpu: str
    cancelled: bool


class Waiting(TypedDict):
    """A job that is queued."""

    run_id: str
    overrides: list[str]
    folder: str
    gpus: list[str]
    variables: dict[str, str]


class QueueFile(TypedDict, total=False):
    """The shape of queue.json."""

    runs: int
    waiting: list[Waiting]
    working: dict[str, Working]
    worker: Process


@dataclass
class QueueState:
    """What is queued, in order, and what is running, by run id; a process is its pid and the time it started.

    runs: how many at a time.
    """

    runs: int = 1
    waiting: list[dict[str, Any]] = field(default_factory=list)
    working: dict[str, dict[str, Any]] = field(default_factory=dict)
    worker: dict[str, Any] = field(default_factory=dict)

    def known(self) -> set[str]:
        """Runs that need not be added again: they are queued, or running and not cancelled."""
        at_work = {run_id for run_id, job in self.working.items() if is_alive(job) and not job["cancelled"]}
        return at_work | {job["run_id"] for job in self.waiting}

    def next_job(self) -> dict[str, Any] | None:
        """Take the first job that may start now; one that was cancelled and added again waits until it has ended."""
        if len(self.working) < self.runs:
            for index, job in enumerate(self.waiting):
                if job["run_id"] not in self.working:
                    return self.waiting.pop(index)
        return None

    def free_gpu(self, gpus: Sequence[str]) -> str:
        """The GPU with the fewest jobs; without any, the empty name, which as CUDA_VISIBLE_DEVICES hides all."""
        taken = [job["gpu"] for job in self.working.values()]
        return min(gpus, key=taken.count, default="")

    def stop(self, run_ids: Iterable[str]) -> list[str]:
        """Send SIGTERM to jobs, once only: a second one would end a run before it has saved. Returns their runs."""
        stopped = []
        for run_id in run_ids:
            job = self.working.get(run_id, {})
            if job and is_alive(job) and not job["cancelled"]:
                with suppress(ProcessLookupError):
                    os.kill(job["pid"], signal.SIGTERM)
                job["cancelled"] = True
                stopped.append(run_id)
        return stopped


def describe_process(pid: int) -> dict[str, Any]:
    """Pid and start time, which together tell a process from a later one of the same pid."""
    return {"pid": pid, "started": process_start(pid)}


def is_alive(process: dict[str, Any]) -> bool:
    """Whether a process, as `describe_process` gave it, is still there."""
    return bool(process_start(process.get("pid", 0)) == process.get("started", "") != "")


class LocalQueue:
    """The queue of this machine for the runs below `root`. job: the command of a job, before folder and overrides."""

    def __init__(self, root: Path, job: Sequence[str] = JOB) -> None:
        self.root, self._job = root.absolute(), tuple(job)
        self.folder = self.root / ".launch" / "local" / socket.gethostname()
        self._file = self.folder / "queue.json"

    def add(self, jobs: Sequence[tuple[str, Sequence[str]]], *, runs: int, gpus: Sequence[str] = ()) -> None:
        """Append (run id, overrides) unless the run is there already, and start a worker if there is none.

        runs: how many at a time, in the whole queue. gpus: those that these jobs share, as CUDA_VISIBLE_DEVICES names
        them; without any, they see none.
        """
        variables = {key: value for key, value in os.environ.items() if key.startswith(PASSED_ON)}
        with self.change() as state:
            state.runs = runs
            if not is_alive(state.worker):
                state.waiting = []  # their worker died, and since then they were shown as missing
            known = state.known()
            for run_id, overrides in jobs:
                if run_id not in known:
                    job = {"run_id": run_id, "overrides": list(overrides), "folder": os.getcwd(), "gpus": list(gpus)}
                    state.waiting.append({**job, "variables": variables})
                    known.add(run_id)
            if state.waiting and not is_alive(state.worker):
                state.worker = describe_process(self._start_worker())

    def states(self) -> dict[str, str]:
        """ "queued" or "running" by run id; without a living worker nothing is queued."""
        state = self._read()
        waiting = {job["run_id"]: "queued" for job in state.waiting if is_alive(state.worker)}
        return waiting | {run_id: "running" for run_id, job in state.working.items() if is_alive(job)}

    def cancel(self, run_ids: Iterable[str]) -> list[str]:
        """Remove queued runs, let running ones save and end; returns the runs that this call ended."""
        wanted = set(run_ids)
        with self.change() as state:
            removed = [job["run_id"] for job in state.waiting if job["run_id"] in wanted]
            state.waiting = [job for job in state.waiting if job["run_id"] not in wanted]
            return [*removed, *(run_id for run_id in state.stop(sorted(wanted)) if run_id not in removed)]

    @contextmanager
    def change(self) -> Iterator[QueueState]:
        """The state, locked against other processes while it is changed; written back if it was changed."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "queue.lock"):
            state = self._read()
            before = repr(state)
            try:
                yield state
            finally:
                if repr(state) != before:
                    write_json(self._file, asdict(state))

    def _read(self) -> QueueState:
        known = {each.name for each in fields(QueueState)}
        return QueueState(**{key: value for key, value in read_facts(self._file, QueueFile).items() if key in known})

    def _start_worker(self) -> int:
        """Start a worker without a terminal, which keeps running after the user has logged out. Returns its pid."""
        command = [*WORKER, str(self.root), *self._job]
        with (self.folder / "worker.log").open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            ).pid


class Worker:
    """Starts jobs in order, as many at a time as the queue says, until nothing is left.

    Jobs left behind by a worker that was killed count among them. SIGTERM stops the running jobs and drops the queue.
    """

    def __init__(self, root: Path, job: Sequence[str] = JOB) -> None:
        self._queue, self._job = LocalQueue(root, job), tuple(job)
        self._children: list[subprocess.Popen[bytes]] = []
        self._told_to_end = False

    def work(self) -> None:
        """Work until nothing is left; return at once if there is another worker."""
        signal.signal(signal.SIGTERM, self._end)
        with self._queue.change() as state:
            if is_alive(state.worker) and state.worker["pid"] != os.getpid():
                return
            state.worker = describe_process(os.getpid())
        while self._poll():
            time.sleep(POLL_SECONDS)
        for child in self._children:
            child.wait()

    def _end(self, number: int, frame: FrameType | None) -> None:
        self._told_to_end = True

    def _poll(self) -> bool:
        """Note which jobs have ended and start those that may start; returns whether there is more to do."""
        self._children = [child for child in self._children if child.poll() is None]
        with self._queue.change() as state:
            state.working = {run_id: job for run_id, job in state.working.items() if is_alive(job)}
            while not self._told_to_end and (job := state.next_job()):
                self._start(job, state)
            if self._told_to_end:
                state.stop(list(state.working))
            # The worker signs off while it holds the lock: whoever adds a run next starts another worker. If it signed
            # off later, a run added in between would wait for a worker that has gone.
            if self._told_to_end or not (state.waiting or state.working):
                state.worker = {}
        return bool(state.worker)

    def _start(self, job: dict[str, Any], state: QueueState) -> None:
        """Start a job in a session of its own, so that a signal to the worker's group does not reach it twice."""
        gpu = state.free_gpu(job["gpus"])
        own = {key: value for key, value in os.environ.items() if not key.startswith(PASSED_ON)}
        environment = own | job["variables"] | {"CUDA_VISIBLE_DEVICES": gpu}
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
        state.working[job["run_id"]] = {**describe_process(child.pid), "gpu": gpu, "cancelled": False}


if __name__ == "__main__":
    Worker(Path(sys.argv[1]), sys.argv[2:] or JOB).work()

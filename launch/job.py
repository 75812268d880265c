"""One run brought to its end: what a cluster's job does. Imports nothing heavy: it must cost a job nothing."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Any, TextIO, TypedDict

from sparse_rnn.core.errors import DeviceLost, RunLocked
from sparse_rnn.core.files import write_json
from sparse_rnn.core.lock import RunLock
from sparse_rnn.core.reading import open_plain, read_facts

EXIT_LINE = "launch: the job ended with exit code "  # the last line that a batch script writes
START_OF_ATTEMPT = "--- "
LOCKED = RunLocked.exit_code
DEVICE_LOST = DeviceLost.exit_code
STOPPED = 128
KILLS_WITHOUT_PROGRESS = 5
STOPPING = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2)


class Submission(TypedDict, total=False):
    """The shape of submission.json."""

    cluster: str
    job: str | None
    log: str
    together: list[str]
    overrides: list[str]
    config: dict[str, Any]
    submitted: float
    cancelled: bool


class Started(TypedDict, total=False):
    """The shape of attempts.json."""

    open: bool
    kills: int
    checkpoint: int
    error: str | None
    lost: str | None
    finished: bool


class JobFiles:
    """The launcher's files in the folder of a run, beside those of the run itself.

    submission: where the run was sent; attempts: see Attempts; log: the output of all its training processes.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.submission = folder / "submission.json"
        self.attempts = folder / "attempts.json"
        self.log = folder / "log.txt"

    def read_submission(self) -> dict[str, Any]:
        """What can be used of submission.json, the rest with a warning; empty if there is none."""
        return read_facts(self.submission, Submission)

    def read_attempts(self) -> dict[str, Any]:
        """What can be used of attempts.json, the rest with a warning; empty if there is none."""
        return read_facts(self.attempts, Started)


class Attempts:
    """How often a run was started, kept in attempts.json.

    A run that is killed, or loses its device, KILLS_WITHOUT_PROGRESS times without a new checkpoint in between is given
    up: otherwise one that needs more memory than there is would be started for ever.
    """

    def __init__(self, files: JobFiles) -> None:
        self._files = files

    def begin(self) -> bool:
        """Count a start; False if the run is given up."""
        before, checkpoint = self._files.read_attempts(), self._checkpoint()
        before = before if before.get("checkpoint") == checkpoint else {}
        # A start that is still marked open was never ended: whoever made it, supervisor included, was killed.
        killed, lost = before.get("kills", 0) + bool(before.get("open")), before.get("lost")
        error = _given_up(lost) if killed >= KILLS_WITHOUT_PROGRESS else None
        self._write(open=error is None, kills=killed, checkpoint=checkpoint, error=error, lost=lost)
        return error is None

    def lose_device(self, sentence: str) -> None:
        """The start that is open has lost its device, as its sentence says; it counts like one that was killed."""
        self._write(**(self._files.read_attempts() | {"lost": sentence}))

    def end(self, error: str | None = None, *, finished: bool = False) -> None:
        """The run ended by itself, or was stopped on purpose: earlier kills no longer count."""
        self._write(open=False, kills=0, checkpoint=self._checkpoint(), error=error, finished=finished)

    def are_over(self) -> bool:
        """Whether the run, since it was sent, has finished or failed by its own fault, or was given up."""
        facts = self._files.read_attempts()
        return bool(facts.get("finished") or facts.get("error"))

    def _write(self, **facts: Any) -> None:
        write_json(self._files.attempts, facts)

    def _checkpoint(self) -> int:
        try:
            return (self._files.folder / "checkpoint.pt").stat().st_mtime_ns
        except OSError:
            return 0


def _given_up(lost: str | None) -> str:
    """lost: how the run lost its device; None if it did not."""
    killed = "killed, or lost its device," if lost else "killed"
    why = lost.rstrip(".") if lost else "out of memory, or a machine that fails?"
    return (
        f"Given up: it was {killed} {KILLS_WITHOUT_PROGRESS} times without a new checkpoint in between ({why}); "
        "--retry starts it again."
    )


class Supervisor:
    """Trains a run in a process of its own, and again if that process is killed; `stop` ends it once it has saved.

    Only the training process takes the run's lock: of two supervisors of one run, the second ends with LOCKED.
    queued_again: whether a run that has lost its device leaves it to the job to begin again, perhaps on another node;
    else it is started again at once.
    """

    def __init__(self, folder: Path, overrides: Sequence[str], *, queued_again: bool = False) -> None:
        self._files, self._overrides, self._queued_again = JobFiles(folder), overrides, queued_again
        self._child: subprocess.Popen[bytes] | None = None
        self._stopped_by = 0

    def run(self) -> int:
        """Bring the run to its end; returns the exit code of training.

        0 finished, 1 failed, 2 wrong configuration, 3 taken by another process, 4 device lost, 128 + n stopped by
        signal n.
        """
        self._files.folder.mkdir(parents=True, exist_ok=True)
        if self._is_taken():
            return LOCKED
        attempts = Attempts(self._files)
        while attempts.begin():
            code = self._train()
            if code == LOCKED:
                return LOCKED
            if code == DEVICE_LOST:
                attempts.lose_device(last_error(self._files.log))
                if self._queued_again or self._stopped_by:
                    return DEVICE_LOST
            elif self._was_told_to_stop(code) or code <= STOPPED:
                attempts.end(last_error(self._files.log) if 0 < code < STOPPED else None, finished=code == 0)
                return code
            # Killed by SIGKILL, SIGSEGV or the like: the next turn resumes from the last checkpoint.
        with self._files.log.open("a", encoding="utf-8") as log:
            log.write(f"error: {self._files.read_attempts().get('error')}\n")
        return 1

    def stop(self, number: int) -> None:
        """Let training save and end, as signal `number` asks for."""
        self._stopped_by = number
        if self._child is not None and self._child.poll() is None:
            self._child.terminate()

    def _was_told_to_stop(self, code: int) -> bool:
        """Whether training ended by a signal that is sent to end it; by others, such as SIGKILL or SIGSEGV, it died."""
        return self._stopped_by > 0 or code - STOPPED in STOPPING

    def _is_taken(self) -> bool:
        """Whether a living process holds the run's lock."""
        # A stale lock is taken over here, which may take minutes: no attempt is counted for a run in good hands.
        lock = RunLock(self._files.folder / "run.lock")
        try:
            while not lock.take():
                if self._stopped_by:
                    return False
            lock.release()
        except RunLocked:
            return True
        except OSError:
            return False  # training will say so
        return False

    def _train(self) -> int:
        """Start training and wait for it; returns its exit code, 128 + n if signal n ended it."""
        with self._files.log.open("a", encoding="utf-8") as log:
            self._announce(log)
            environment = os.environ | {"SPARSE_RNN_RUNS": str(self._files.folder.parent), "PYTHONUNBUFFERED": "1"}
            command = [sys.executable, "-m", "sparse_rnn.train", *self._overrides]
            self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
            if self._stopped_by:  # by a signal that came before there was a child to pass it to
                self._child.terminate()
            code = self._child.wait()
        return code if code >= 0 else STOPPED - code

    def _announce(self, log: TextIO) -> None:
        """Begin an attempt in the log: when, on which host, in which job."""
        job = os.environ.get("SLURM_ARRAY_JOB_ID", os.environ.get("SLURM_JOB_ID", ""))
        task = os.environ.get("SLURM_ARRAY_TASK_ID")
        where = f", SLURM job {job}{f'_{task}' if task else ''}" if job else ""
        log.write(f"{START_OF_ATTEMPT}{time.strftime('%Y-%m-%d %H:%M:%S')}, host {socket.gethostname()}{where}\n")
        log.flush()


def stop_on_signals(supervisors: Sequence[Supervisor]) -> None:
    """Pass every signal that asks this process to stop on to all of these."""

    def stop_all(number: int, frame: FrameType | None) -> None:
        for supervisor in supervisors:
            supervisor.stop(number)

    for number in STOPPING:
        signal.signal(number, stop_all)


def last_error(log: Path) -> str:
    """The last error line of the latest attempt in a log; if there is none, its last line."""
    lines: list[str] = []
    for line in tail(log):
        if line.startswith(START_OF_ATTEMPT):
            lines.clear()
        elif line.strip() and not line.startswith(EXIT_LINE):
            lines.append(line)
    errors = [line for line in lines if line.startswith("error: ")] or lines or ["It printed nothing."]
    return errors[-1].removeprefix("error: ").strip()


def tail(log: Path, size: int = 20_000) -> list[str]:
    """The lines in the last `size` bytes of a file; none if it cannot be read."""
    try:
        return last_bytes(log, size).decode(errors="replace").splitlines()
    except (OSError, ValueError):  # ValueError: the name cannot be that of a file
        return []


def last_bytes(path: Path, size: int) -> bytes:
    """The end of a plain file; raises OSError."""
    with open_plain(path) as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - size))
        return stream.read(size)


def main() -> None:
    """The folder of a run and its overrides, as arguments."""
    supervisor = Supervisor(Path(sys.argv[1]), sys.argv[2:])
    stop_on_signals([supervisor])
    sys.exit(supervisor.run())


if __name__ == "__main__":
    main()

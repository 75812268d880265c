"""The task of a SLURM array: one run, or several that share its GPU, each with its own fate. Imports nothing heavy."""

import os
import signal
import sys
import traceback
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

from .job import DEVICE_LOST, LOCKED, STOPPED, Attempts, JobFiles, Supervisor, stop_on_signals

SECONDS_BETWEEN_LOOKS = 2.0


class Member:
    """A run of the task. sent: when the task was sent, as the run's submission.json says."""

    def __init__(self, folder: Path, overrides: Sequence[str], sent: float) -> None:
        self._files, self._sent = JobFiles(folder), sent
        self.supervisor = Supervisor(folder, overrides, queued_again=True)
        self.cancelled = False

    def is_due(self) -> bool:
        """Whether the run is still this task's to bring to its end: after a requeue, not all of them are."""
        # The file may be written only after the task has begun. So one that is older says nothing.
        sent_again = self._files.read_submission().get("submitted", 0.0) > self._sent
        return not (sent_again or self.is_cancelled() or Attempts(self._files).are_over())

    def is_cancelled(self) -> bool:
        """Whether the user has cancelled this run but not the whole task."""
        submission = self._files.read_submission()
        return bool(submission.get("cancelled")) and submission.get("submitted") == self._sent

    def cancel(self) -> None:
        """Let the run save and end; once only, since training takes a signal for each call."""
        if not self.cancelled:
            self.cancelled = True
            self.supervisor.stop(signal.SIGTERM)


def slurm_task(runs: Sequence[tuple[str, Sequence[str]]], sent: float, has_gpus: bool) -> None:
    """Bring runs (folder, overrides) to their ends side by side, then exit with a code for all of them.

    The code has the job queued again if a run was stopped by a signal or lost its device. A job that has no GPUs hides
    those of its node.
    """
    if not has_gpus:  # here, since SLURM does not pass the batch script's value on
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    members = [Member(Path(folder), overrides, sent) for folder, overrides in runs]
    members = [member for member in members if member.is_due()]
    if members and (code := _common_code(_bring_to_their_ends(members))):
        sys.exit(code)


def _bring_to_their_ends(members: Sequence[Member]) -> list[int]:
    """Supervise all runs until the last one has ended; returns their exit codes, 0 for a cancelled one."""
    stop_on_signals([member.supervisor for member in members])
    with ThreadPoolExecutor(len(members)) as threads:
        futures = [threads.submit(member.supervisor.run) for member in members]
        while wait(futures, timeout=SECONDS_BETWEEN_LOOKS).not_done:
            for member in members:
                if member.is_cancelled():
                    member.cancel()
    return [0 if member.cancelled else _code(future) for member, future in zip(members, futures, strict=True)]


def _code(future: "Future[int]") -> int:
    """The exit code of a supervisor; 1 if it failed, as on a full disk. That is nothing to the other runs."""
    if (error := future.exception()) is None:
        return future.result()
    traceback.print_exception(error)
    return 1


def _common_code(codes: Sequence[int]) -> int:
    """First, what queues the job again; then, the failure of a run; 0 if all ended well or others work on them."""
    unfinished = [code for code in codes if code > STOPPED or code == DEVICE_LOST]
    failed = [code for code in codes if code not in (0, LOCKED)]
    return next(iter([*unfinished, *failed]), 0)

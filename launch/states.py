"""The state of a run, found in its folder and in the queue it waits in."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_rnn.config.stored import changed_keys
from sparse_rnn.core.files import read_json
from sparse_rnn.core.wording import shown_metric
from sparse_rnn.runs.folder import RunFolder

from .heartbeats import living_holder
from .job import EXIT_LINE, JobFiles, last_error, tail

STATES = ("missing", "queued", "running", "failed", "finished", "stale")
ENDED_WELL = ("COMPLETED", "CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "REQUEUED")


@dataclass(frozen=True)
class RunStatus:
    """The state of a run, one of STATES; a detail in words; the share of its training that remains; its log."""

    state: str
    detail: str = ""
    remaining: float = 1.0
    log: Path | None = None


def find_status(
    folder: RunFolder,
    record: Mapping[str, Any] | None,
    config: Mapping[str, Any] | None,
    queue: Mapping[str, str],
    ended: Mapping[str, str],
) -> RunStatus:
    """The status of one run.

    record: as it lies in the folder, read after `queue`. config: what is asked for now, to notice a folder that holds
    something else. queue: state and reason by run id of what waits or runs in the cluster. ended: SLURM's state of jobs
    that are over, by job.
    """
    files = JobFiles(folder.path)
    log = job_log(folder.path)
    if record is not None and config is not None and (changed := changed_keys(record["config"], config)):
        return RunStatus("stale", f"its folder holds a run with other values of {', '.join(changed)}")
    if record is not None and record["status"] == "finished":
        return RunStatus("finished", _result(record), 0.0, log)
    done, progress = _progress(folder, record)
    # The lock before the queue: SLURM's answer is older, and the lock shows a run that was started by hand as well.
    if holder := living_holder(folder.lock):
        return RunStatus("running", f"{progress or 'starting'}, on {holder['host']}", 1 - done, log)
    lost = read_json(files.attempts).get("lost") or ""
    if queued := queue.get(folder.path.name):
        state, _, reason = queued.partition(" ")
        return RunStatus(state, _joined(reason or progress, lost), 1 - done, log)
    if error := _error(files, record, ended):
        return RunStatus("failed", error, 1 - done, log)
    stopped = f"stopped in {progress}, resumes from there" if progress else ""
    return RunStatus("missing", _joined(stopped, lost), 1 - done, log)


def _joined(*details: str) -> str:
    return "; ".join(detail for detail in details if detail)


def _result(record: Mapping[str, Any]) -> str:
    results = record["results"]
    return " ".join(f"{split} {shown_metric(results, split)}" for split in ("valid", "test"))


def _progress(folder: RunFolder, record: Mapping[str, Any] | None) -> tuple[float, str]:
    """The share of the epochs that is done, and the epoch in words."""
    if record is None:
        return 0.0, ""
    epochs, done = record["config"]["training"]["epochs"], 0
    for line in reversed(tail(folder.metrics)):
        try:
            row = json.loads(line)
        except ValueError:  # cut short by a kill while it was written, or by the limit of `tail`
            continue
        done = row["epoch"] - ("valid/loss" not in row)
        break
    return done / epochs, f"epoch {min(done + 1, epochs)} of {epochs}"


def _error(files: JobFiles, record: Mapping[str, Any] | None, ended: Mapping[str, str]) -> str:
    """Why a run that is neither queued nor running failed; empty if it did not fail."""
    attempts = read_json(files.attempts)
    if (error := attempts.get("error")) and (record is None or record["status"] != "stopped"):
        return str(error)
    if record is not None and record["status"] == "failed" and not attempts.get("lost"):
        return str(record["error"])
    submission = read_json(files.submission)
    if attempts or not submission or submission.get("cancelled"):
        return ""
    # The job never started the run. Accounting may not exist: then the batch script's last line tells.
    state, log = ended.get(submission.get("job") or "", ""), Path(submission.get("log") or "none")
    if state and state not in ENDED_WELL:
        return f"SLURM job {submission['job']} ended as {state}: {last_error(log)}"
    if 0 < _exit_code(log) <= 128:
        return f"SLURM job {submission['job']} ended before the run began: {last_error(log)}"
    return ""


def job_log(folder: Path) -> Path | None:
    """The log of a run, or else that of the job that was to begin it; None if there is neither."""
    files = JobFiles(folder)
    log = files.log if files.log.exists() else Path(read_json(files.submission).get("log") or "none")
    return log if log.exists() else None


def _exit_code(log: Path) -> int:
    """The exit code in the batch script's last line; 0 if it wrote none."""
    for line in reversed(tail(log)):
        if line.startswith(EXIT_LINE):
            return int(line.removeprefix(EXIT_LINE))
    return 0

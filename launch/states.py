"""The state of a run, found in its folder and in the queue it waits in."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sparse_rnn.config.stored import changed_keys, check_config
from sparse_rnn.core.command_line import warn
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.wording import shown_metric
from sparse_rnn.runs.folder import RunFolder, has_results
from sparse_rnn.runs.other_data import earlier_run
from sparse_rnn.runs.rows import is_begun, parse_row

from .heartbeats import living_holder
from .job import EXIT_LINE, JobFiles, last_bytes, last_error, tail

STATES = ("missing", "queued", "running", "failed", "finished", "stale")
END_OF_LOG = 100_000  # bytes of a run's rows that are looked at
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
    data_sha256: str | None = None,
) -> RunStatus:
    """The status of one run.

    record: as it lies in the folder, read after `queue`. config: what is asked for now, to notice a folder that holds
    something else. queue: state and reason by run id of what waits or runs in the cluster. ended: SLURM's state of jobs
    that are over, by job. data_sha256: of the data that are here; None: unknown.
    """
    files = JobFiles(folder.path)
    log = job_log(folder.path)
    if record is not None and (holds := _other_run(folder, record, config)):
        return RunStatus("stale", f"its folder holds a run {holds}")
    if record is not None and data_sha256 not in (None, record["data_sha256"]):
        return RunStatus("stale", "its folder holds a run that was trained on other data")
    if record is None and config is not None and (other := earlier_run(folder, config, data_sha256)):
        return RunStatus("stale", f"{other} was trained on other data of the same files")
    if record is not None and is_finished(record):
        return RunStatus("finished", _result(record), 0.0, log)
    done, progress = _progress(folder, record)
    # The lock before the queue: SLURM's answer is older, and the lock shows a run that was started by hand as well.
    if holder := living_holder(folder.lock):
        return RunStatus("running", f"{progress or 'starting'}, on {holder['host']}", 1 - done, log)
    lost = files.read_attempts().get("lost") or ""
    if queued := queue.get(folder.path.name):
        state, _, reason = queued.partition(" ")
        return RunStatus(state, _joined(reason or progress, lost), 1 - done, log)
    if error := _error(files, record, ended):
        return RunStatus("failed", error, 1 - done, log)
    stopped = f"stopped in {progress}, resumes from there" if progress else ""
    return RunStatus("missing", _joined(stopped, lost), 1 - done, log)


def is_finished(record: Mapping[str, Any] | None) -> bool:
    """Whether a record is that of a finished run, with its results."""
    return record is not None and record["status"] == "finished" and has_results(record)


def _other_run(folder: RunFolder, record: Mapping[str, Any], config: Mapping[str, Any] | None) -> str:
    """What a folder holds that is not what is asked for, as the end of a sentence; empty if it is that."""
    try:
        check_config(record["config"])
        changed = changed_keys(record["config"], config) if config is not None else []
    except ConfigError as error:
        warn(f"{folder.path} is stale: {error}")
        return "of another version of sparse_rnn, or a damaged one"
    if not changed and record["status"] == "finished" and not has_results(record):
        warn(f"{folder.record} says that its run is finished and not with what results: it is stale.")
        return "that is finished, without its results"
    return f"with other values of {', '.join(changed)}" if changed else ""


def _joined(*details: str) -> str:
    return "; ".join(detail for detail in details if detail)


def _result(record: Mapping[str, Any]) -> str:
    results = record["results"]
    return " ".join(f"{split} {shown_metric(results, split)}" for split in ("valid", "test"))


def _progress(folder: RunFolder, record: Mapping[str, Any] | None) -> tuple[float, str]:
    """The share of the epochs that is done, and the epoch in words."""
    if record is None:
        return 0.0, ""
    epochs, row = max(1, record["config"]["training"]["epochs"]), _last_row(folder.metrics)
    done = min(max(0, row["epoch"] - ("valid/loss" not in row)), epochs) if row else 0
    return done / epochs, f"epoch {min(done + 1, epochs)} of {epochs}"


def _last_row(metrics: Path) -> dict[str, Any]:
    """The last row that can be read of a run that may be writing it; empty if there is none."""
    try:
        content = last_bytes(metrics, END_OF_LOG)
    except FileNotFoundError:
        return {}
    except OSError as error:
        warn(f"{metrics} cannot be read ({error.strerror or error}).")
        return {}
    # The first line may have been cut by the limit; what follows the last line's end is still being written.
    *lines, rest = content.split(b"\n")[len(content) == END_OF_LOG :] or [b""]
    problem, found = "" if is_begun(rest) and (lines or len(content) < END_OF_LOG) else "no row ends there", {}
    for line in lines:
        try:
            found = parse_row(line)
        except ValueError as error:
            problem = str(error)
    if problem:
        warn(f"{metrics} is damaged in its last lines ({problem}): they are left out.")
    return found


def _error(files: JobFiles, record: Mapping[str, Any] | None, ended: Mapping[str, str]) -> str:
    """Why a run that is neither queued nor running failed; empty if it did not fail."""
    attempts = files.read_attempts()
    if (error := attempts.get("error")) and (record is None or record["status"] != "stopped"):
        return str(error)
    if record is not None and record["status"] == "failed" and not attempts.get("lost"):
        return str(record.get("error", "Its record does not say why."))
    submission = files.read_submission()
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
    log = files.log if files.log.exists() else Path(files.read_submission().get("log") or "none")
    return log if os.path.exists(log) else None  # by os: a name that cannot be that of a file is that of none


def _exit_code(log: Path) -> int:
    """The exit code in the batch script's last line; 0 if it wrote none."""
    for line in reversed(tail(log)):
        if line.startswith(EXIT_LINE) and (code := line.removeprefix(EXIT_LINE)).isdecimal():
            return int(code[:4])
    return 0

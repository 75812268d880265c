"""SLURM: arrays of jobs sent through submitit, the queue, what became of jobs."""

import getpass
import re
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, TypeVar

from sparse_rnn.config.launchers import ALL_CPUS
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.files import write_json

from .clusters import SlurmCluster
from .job import DEVICE_LOST, EXIT_LINE, Attempts, JobFiles
from .slurm_task import slurm_task

Item = TypeVar("Item")
ToSend = tuple[str, Sequence[str], str]  # run id, overrides, model
Configs = Mapping[str, Mapping[str, Any]]  # configurations by run id
JOB_NAME = "sparse_rnn"
WAITING = ("PENDING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT", "CONFIGURING", "RESV_DEL_HOLD")
SECONDS_FOR_SLURM = 60
QUICK_SECONDS = 20
QUICK_DEATHS = 5
# SIGTERM (preemption) and SIGUSR2 (time limit) are for the run. Without a trap they would end this shell as well, which
# has to live until it has queued the job again. A trap with a command, `:`, is not inherited by the run as ignored.
KEEP_SHELL = "trap : TERM USR2"
# Queue the job again if a signal ended a run or one has lost its device. Not if the job is being cancelled, or queued
# again by SLURM itself: then it is no longer RUNNING. Not if it keeps dying before the run begins. SLURM_JOB_ID alone
# would not do: the one of an array's last task names the whole array.
QUEUE_AGAIN = f"""\
code=$?
job=$SLURM_JOB_ID
if [ -n "$SLURM_ARRAY_JOB_ID" ]; then job=${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID; fi
if {{ [ $code -gt 128 ] || [ $code -eq {DEVICE_LOST} ]; }} && [ "$(squeue -h -j "$job" -o %T)" = RUNNING ]; then
  if [ $SECONDS -ge {QUICK_SECONDS} ] || [ "${{SLURM_RESTART_COUNT:-0}}" -lt {QUICK_DEATHS} ]; then
    scontrol requeue "$job"
  fi
fi
exit $code"""
WRITE_EXIT_CODE = f"trap 'echo \"{EXIT_LINE}$?\"' EXIT"


class Refused(ConfigError):
    """SLURM did not take a job; the text is what it said."""


def submit(
    runs: Sequence[ToSend], cluster: SlurmCluster, root: Path, configs: Configs | None = None
) -> Iterator[tuple[str, list[str]]]:
    """Send runs (id, overrides, model) as arrays, at least one per set of resources; yields each array's job and runs.

    configs: kept with what is noted, for runs that have no record yet.
    Each array is noted in the folders of its runs as soon as SLURM has taken it: if SLURM refuses a later one, nothing
    that was sent is forgotten. Raises Refused.
    """
    for resources, members in _by_resources(runs, cluster):
        for array in _arrays(members, resources):
            sent = time.time()
            jobs = _send(array, resources, root, sent)
            for together, job in zip(array, jobs, strict=True):
                ids = [run_id for run_id, *_ in together]
                facts = {"cluster": cluster.name, "job": job.job_id, "log": str(job.paths.stdout), "together": ids}
                for run_id, overrides, _ in together:
                    files = JobFiles(root / run_id)
                    files.folder.mkdir(parents=True, exist_ok=True)
                    own = {"overrides": list(overrides), "config": (configs or {}).get(run_id, {})}
                    write_json(files.submission, {**facts, **own, "submitted": sent})
            yield jobs[0].job_id.partition("_")[0], [run_id for together in array for run_id, *_ in together]


def _arrays(runs: Sequence[ToSend], resources: SlurmCluster) -> Iterator[Sequence[Sequence[ToSend]]]:
    """Arrays of jobs, a job being the runs that share it: all jobs of an array have the same number of runs."""
    left_over = len(runs) % resources.runs_per_gpu
    for equal in (runs[: len(runs) - left_over], runs[len(runs) - left_over :]):
        yield from parts(list(parts(equal, resources.runs_per_gpu)), resources.array)


def _by_resources(runs: Sequence[ToSend], cluster: SlurmCluster) -> Iterator[tuple[SlurmCluster, list[ToSend]]]:
    classes: dict[str, tuple[SlurmCluster, list[ToSend]]] = {}
    for run in runs:
        resources = cluster.of_model(run[2])
        classes.setdefault(repr(resources), (resources, []))[1].append(run)
    yield from classes.values()


def _send(array: Sequence[Sequence[ToSend]], resources: SlurmCluster, root: Path, sent: float) -> list[Any]:
    """Send one array of jobs; returns submitit's jobs. Raises Refused."""
    import submitit  # a quarter of a second, which `plan` and `status` need not wait for

    folder = root.absolute() / ".launch" / "slurm"
    folder.mkdir(parents=True, exist_ok=True)
    before = set(folder.iterdir())
    jobs = []
    try:
        executor = submitit.SlurmExecutor(folder=folder)
        executor.update_parameters(**_parameters(resources, len(array[0])))
        with redirect_stderr(StringIO()), executor.batch():  # submitit would print SLURM's words itself
            for together in array:
                runs = [(str(root.absolute() / run_id), list(overrides)) for run_id, overrides, _ in together]
                jobs.append(executor.submit(slurm_task, runs, sent, resources.has_gpus()))
    except (RuntimeError, OSError, submitit.core.utils.FailedJobError) as error:
        raise Refused(slurm_message(str(error))) from None
    finally:  # what submitit leaves of a refusal, and its link to the batch script
        for left in set(folder.iterdir()) - before:
            if re.fullmatch(r"[0-9a-f]{32}\.pkl|\.submission_file_[0-9a-f]+\.sh", left.name):
                left.unlink()
    return jobs


def _parameters(resources: SlurmCluster, runs: int) -> dict[str, Any]:
    """What a job of so many runs asks for, under the names of submitit's parameters."""
    asked = {
        "partition": resources.partition,
        "account": resources.account,
        "gpus_per_node": resources.gpus or None,
        "mem": None if resources.memory_gb is None else f"{int(runs * resources.memory_gb * 1024)}M",
    }
    return {
        **{key: value for key, value in asked.items() if value is not None},
        "job_name": JOB_NAME,
        "time": resources.time,
        "cpus_per_task": runs * resources.cpus,
        "array_parallelism": resources.parallel,
        "signal_delay_s": resources.warning,
        "stderr_to_stdout": True,
        "setup": [KEEP_SHELL, WRITE_EXIT_CODE, ALL_CPUS, *resources.setup],
        "teardown": QUEUE_AGAIN.splitlines(),
        "additional_parameters": {"requeue": True, "ntasks": 1, **resources.sbatch},
    }


def parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    """The items in order, at most `size` at a time."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def slurm_message(message: str) -> str:
    """What SLURM said, in one line, without the program names and submitit's words around it."""
    said = re.findall(r"^(?:sbatch|squeue|scancel|slurm\w*): (?:error: )?(.+)$", message, flags=re.MULTILINE)
    words = said or [line for line in message.strip().splitlines() if line.strip()][-1:]
    return "; ".join(word.strip().rstrip(".") for word in dict.fromkeys(words)) or "it gave no reason"


def queue(jobs: Mapping[str, str]) -> dict[str, str]:
    """By run id, `queued` with SLURM's reason or `running`, for those of these jobs that are in the queue.

    jobs: by run id.
    """
    known = _squeue() if jobs else {}
    return {run_id: known[job] for run_id, job in jobs.items() if job in known}


def submitted(root: Path, run_ids: Iterable[str]) -> dict[str, str]:
    """The SLURM job of every run that was sent, but for those that their jobs, which others share, are done with."""
    facts = {run_id: JobFiles(root / run_id).read_submission() for run_id in run_ids}
    return {
        run_id: fact["job"]
        for run_id, fact in facts.items()
        if fact.get("job") and not fact.get("cancelled") and not Attempts(JobFiles(root / run_id)).are_over()
    }


def _squeue() -> dict[str, str]:
    """State by job, for this user's jobs of this project that are not over."""
    listed = _run(["squeue", "-h", "-r", "-u", getpass.getuser(), "-n", JOB_NAME, "-o", "%i|%T|%r"])
    states = {}
    for line in listed.splitlines():
        job, state, reason = line.split("|", 2)
        waits = state in WAITING
        states[job] = f"queued {reason}".removesuffix(" None") if waits else "running"
    return states


def ended_states(jobs: Iterable[str]) -> dict[str, str]:
    """SLURM's state of jobs that are over, by job; empty without accounting."""
    states: dict[str, str] = {}
    for part in parts(sorted(set(jobs)), 500):
        try:
            listed = _run(["sacct", "-n", "-P", "-X", "-j", ",".join(part), "-o", "JobID,State"])
        except ConfigError:
            return {}
        for line in listed.splitlines():
            job, state = line.split("|", 1)
            states[job] = state.split(" ")[0]
    return states


def cancel(run_ids: Iterable[str], root: Path) -> list[str]:
    """Cancel those of these runs whose jobs are in the queue under this project's name; returns them.

    A job that has other runs to bring to their ends is left to them: the cancelled ones are marked in their folders,
    where their supervisors look.
    """
    jobs = submitted(root, run_ids)
    known = _squeue() if jobs else {}
    mine = {run_id: job for run_id, job in jobs.items() if job in known}
    submissions = {run_id: JobFiles(root / run_id).read_submission() for run_id in mine}
    others = {other for fact in submissions.values() for other in fact.get("together", ())} - mine.keys()
    needed = set(submitted(root, others).values())
    for part in parts(sorted(set(mine.values()) - needed), 500):
        _run(["scancel", *part])
    for run_id, job in mine.items():
        if job in needed:
            write_json(JobFiles(root / run_id).submission, submissions[run_id] | {"cancelled": True})
    return list(mine)


def _run(command: list[str]) -> str:
    """The output of a SLURM command; raises ConfigError in SLURM's own words."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS_FOR_SLURM, check=True)
    except FileNotFoundError:
        raise ConfigError(
            f"{command[0]} is not installed here: ask about runs that were sent to SLURM on a machine that has it."
        ) from None
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{command[0]} has not answered for {SECONDS_FOR_SLURM} s: try again later.") from None
    except subprocess.CalledProcessError as error:
        raise ConfigError(f"{command[0]} failed: {slurm_message(error.stderr)}.") from None
    return done.stdout

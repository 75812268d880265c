"""Sending runs to a cluster, and cancelling them."""

import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from sparse_rnn.config.stored import run_from_dict
from sparse_rnn.core.files import write_json
from sparse_rnn.core.wording import counted, plural
from sparse_rnn.data.base import Data

from . import slurm
from .clusters import Cluster, LocalCluster
from .job import JobFiles
from .local import LocalQueue
from .requests import Entry


def submission_lock(root: Path) -> FileLock:
    """A lock to hold from finding the missing runs until they are sent: two launchers would both send them."""
    folder = root / ".launch"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / "submit.lock")


def check_data(entries: Sequence[Entry]) -> None:
    """Fetch, read and cache the data of these runs here, once; raises ConfigError if they cannot be had.

    Compute nodes often have no network, and each of a hundred jobs would begin by encoding the same texts. Data that
    are too few for a run's batches raise as well.
    """
    from sparse_rnn.training.assembly import limited  # brings torch, for which `status` need not wait

    loaded: dict[str, Data] = {}
    for config in (entry.facts.config for entry in entries if entry.facts):
        run, name = run_from_dict(config), repr(config["dataset"])
        if name not in loaded:
            loaded[name] = run.dataset.load()
        limited(run, loaded[name])


def send(entries: Sequence[Entry], cluster: Cluster, root: Path) -> str:
    """Send runs; returns where to, for the user. Raises ConfigError in SLURM's own words if it refuses."""
    runs = [_to_send(entry, cluster) for entry in entries]
    configs = {entry.run_id: entry.facts.config for entry in entries if entry.facts}
    at_a_time = cluster.runs_at_a_time() if isinstance(cluster, LocalCluster) else None
    attempts_before = {}
    for run_id, *_ in runs:
        files = JobFiles(root / run_id)
        attempts_before[run_id] = files.read_attempts()
        files.attempts.unlink(missing_ok=True)  # the error of an earlier try would show the run as failed
    if isinstance(cluster, LocalCluster):
        _send_here(runs, cluster, root, configs)
        return f"to this machine, {at_a_time} at a time"
    jobs: list[str] = []
    try:
        for job, taken in slurm.submit(runs, cluster, root, configs):
            jobs.append(job)
            for run_id in taken:
                del attempts_before[run_id]
    except slurm.Refused as refusal:
        for run_id, kept in attempts_before.items():
            if kept:
                write_json(JobFiles(root / run_id).attempts, kept)
        all_of_them = counted(len(runs), "run") if len(runs) > 1 else "run"
        which = f"{len(attempts_before)} of {all_of_them}" if jobs else f"the {all_of_them}"
        what = "it" if len(attempts_before) == 1 else "them"
        raise slurm.Refused(f"SLURM did not take {which}: {refusal}; run submit again to send {what}.") from None
    return f"to {cluster.name}, {plural('job', len(jobs))} {', '.join(jobs)}"


def _to_send(entry: Entry, cluster: Cluster) -> slurm.ToSend:
    """A run with the threads and the device that the cluster gives it, where its own overrides name none.

    A run that gets a GPU has to use it: `device=auto` would train on the CPU where the driver is broken.
    """
    model = entry.facts.config["model"]["name"] if entry.facts else ""
    resources = cluster.of_model(model)
    named = {override.lstrip("+").partition("=")[0] for override in entry.overrides}
    given = [] if "threads" in named else [f"threads={resources.threads_of_a_run()}"]
    if "device" not in named and _uses_gpu(entry, resources):
        given.append("device=cuda")
    return entry.run_id, [*entry.overrides, *given], model


def _uses_gpu(entry: Entry, cluster: Cluster) -> bool:
    """Whether a run gets a GPU: on this machine, one that asks for the kernels of the CPU leaves it to others."""
    if not isinstance(cluster, LocalCluster):
        return cluster.has_gpus()
    backend = entry.facts.config["sparsifier"]["backend"] if entry.facts else "auto"
    return backend != "sparse" and bool(cluster.devices())


def _send_here(runs: Sequence[slurm.ToSend], cluster: LocalCluster, root: Path, configs: slurm.Configs) -> None:
    """Note in each run's folder that it was sent, and add it to the queue of this machine."""
    for run_id, overrides, _ in runs:
        files = JobFiles(root / run_id)
        files.folder.mkdir(parents=True, exist_ok=True)
        facts = {"cluster": cluster.name, "job": None, "overrides": list(overrides), "submitted": time.time()}
        write_json(files.submission, {**facts, "config": configs.get(run_id, {})})
    jobs = [(run_id, overrides) for run_id, overrides, _ in runs]
    LocalQueue(root).add(jobs, runs=cluster.runs_at_a_time(), gpus=cluster.devices())


def cancel_runs(entries: Sequence[Entry], root: Path) -> list[str]:
    """Cancel what is queued or running; a running one saves first. Returns the ids of the runs it cancelled."""
    run_ids = list(dict.fromkeys(entry.run_id for entry in entries))
    ended = LocalQueue(root).cancel(run_ids)
    return [*ended, *slurm.cancel(run_ids, root)]

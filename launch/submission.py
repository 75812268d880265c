"""Sending runs to a cluster, and calling them off."""

import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from launch import slurm
from launch.clusters import Cluster, LocalCluster
from launch.job import JobFiles
from launch.local import LocalQueue
from launch.requests import Entry
from sparse_rnn.core.files import read_json, write_json


def submission_lock(root: Path) -> FileLock:
    """Held while somebody looks what is missing and sends it, so that two launchers do not both send it."""
    folder = root / ".launch"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / "submit.lock")


def check_data(entries: Sequence[Entry]) -> None:
    """Fetch, read and cache the data of these runs here, once; raises ConfigError if they cannot be had.

    Compute nodes often have no network, and a hundred jobs would else begin by encoding the same texts.
    """
    from sparse_rnn.config.stored import run_from_dict

    configs = {repr(entry.facts.config["dataset"]): entry.facts.config for entry in entries if entry.facts}
    for config in configs.values():
        run_from_dict(config).dataset.load()


def send(entries: Sequence[Entry], cluster: Cluster, root: Path) -> str:
    """Send runs; returns where to, for the user. Raises ConfigError in SLURM's own words if it refuses."""
    runs, before = [], {}
    for entry in entries:
        attempts = JobFiles(root / entry.run_id).attempts
        before[entry.run_id] = read_json(attempts)
        attempts.unlink(missing_ok=True)
        model = entry.facts.config["model"]["name"] if entry.facts else ""
        overrides = list(entry.overrides)
        if not any(override.startswith("threads=") for override in overrides):
            overrides.append(f"threads={cluster.of_model(model).threads_of_a_run()}")
        runs.append((entry.run_id, overrides, model))
    if isinstance(cluster, LocalCluster):
        _send_here(runs, cluster, root)
        return f"to this machine, {cluster.runs_at_a_time()} at a time"
    jobs: list[str] = []
    try:
        for job, taken in slurm.submit(runs, cluster, root):
            jobs.append(job)
            for run_id in taken:
                del before[run_id]
    except slurm.Refused as refusal:
        for run_id, kept in before.items():
            if kept:
                write_json(JobFiles(root / run_id).attempts, kept)
        which = f"{len(before)} of {len(runs)} runs" if jobs else f"the {len(runs)} runs"
        raise slurm.Refused(f"SLURM did not take {which}: {refusal}; submit again for them.") from None
    return f"to {cluster.name}, job{'s' * (len(jobs) > 1)} {', '.join(jobs)}"


def _send_here(runs: Sequence[slurm.ToSend], cluster: LocalCluster, root: Path) -> None:
    for run_id, overrides, _ in runs:
        files = JobFiles(root / run_id)
        files.folder.mkdir(parents=True, exist_ok=True)
        facts = {"cluster": cluster.name, "job": None, "overrides": list(overrides), "submitted": time.time()}
        write_json(files.submission, facts)
    jobs = [(run_id, overrides) for run_id, overrides, _ in runs]
    LocalQueue(root).add(jobs, runs=cluster.runs_at_a_time(), gpus=cluster.devices())


def call_off(entries: Sequence[Entry], root: Path) -> list[str]:
    """Cancel what waits or works; a run at work saves first. Returns the runs' ids."""
    run_ids = list(dict.fromkeys(entry.run_id for entry in entries))
    ended = LocalQueue(root).cancel(run_ids)
    jobs = slurm.submitted(root, run_ids)
    return [*ended, *(slurm.cancel(jobs) if jobs else [])]

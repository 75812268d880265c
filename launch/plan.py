"""Runs with their states: what `plan`, `status` and `submit` start from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from launch import slurm
from launch.job import JobFiles
from launch.local import LocalQueue
from launch.requests import Entry
from launch.states import STATES, Standing, standing
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.files import read_json
from sparse_rnn.runs.folder import RunFolder, read_record


@dataclass(frozen=True)
class Plan:
    """Entries, and the standing of each of their runs. `warning`: what keeps the standings from being complete."""

    entries: Sequence[Entry]
    standings: dict[str, Standing]
    warning: str = ""

    def runs(self, *states: str) -> list[Entry]:
        """Every run once that is in one of these states."""
        once: dict[str, Entry] = {}
        for entry in self.entries:
            once.setdefault(entry.run_id, entry)
        return [entry for entry in once.values() if self.standings[entry.run_id].state in states]

    def counts(self) -> dict[str, int]:
        """How many runs are in each state, in the order of STATES."""
        found = Counter(standing.state for standing in self.standings.values())
        return {state: found[state] for state in STATES if found[state]}


def look(entries: Sequence[Entry], root: Path, *, strict: bool = False) -> Plan:
    """Where the runs stand now. strict: raise ConfigError, where SLURM does not answer, instead of warning."""
    run_ids = list(dict.fromkeys(entry.run_id for entry in entries))
    queue: dict[str, str] = dict(LocalQueue(root).states())
    folders = {run_id: RunFolder(root / run_id) for run_id in run_ids}
    records = {run_id: read_record(folder) for run_id, folder in folders.items()}
    open_runs = [run_id for run_id, record in records.items() if record is None or record["status"] != "finished"]
    jobs, warning = slurm.submitted(root, open_runs), ""
    over: dict[str, str] = {}
    try:
        queue |= slurm.queue(jobs)
        over = slurm.ended(job for run_id, job in jobs.items() if run_id not in queue and _without_trace(root / run_id))
    except ConfigError as error:
        if strict:
            raise
        warning = f"{error} Runs that wait in a queue count as missing."
    records |= {run_id: read_record(folders[run_id]) for run_id in open_runs}  # one may have ended since
    configs = {entry.run_id: entry.facts.config if entry.facts else None for entry in entries}
    standings = {
        run_id: standing(folder, records[run_id], configs[run_id], queue, over) for run_id, folder in folders.items()
    }
    return Plan(entries, standings, warning)


def _without_trace(folder: Path) -> bool:
    """Whether a job was sent that never came as far as to begin the run."""
    return not read_json(JobFiles(folder).attempts)

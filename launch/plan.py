"""Runs with their states: what `plan`, `status` and `submit` start from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sparse_rnn.config.stored import run_from_dict
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.content import CHANGED, content, remembered
from sparse_rnn.runs.folder import RunFolder, read_record
from sparse_rnn.tables.run_facts import RunFacts

from . import slurm
from .job import JobFiles
from .local import LocalQueue
from .requests import Entry
from .states import STATES, RunStatus, find_status, is_finished


@dataclass(frozen=True)
class Plan:
    """Entries, and the status of each of their runs by id. `warning`: why some of these may be incomplete."""

    entries: Sequence[Entry]
    statuses: dict[str, RunStatus]
    warning: str = ""

    def runs(self, *states: str) -> list[Entry]:
        """The runs that are in one of these states, each once."""
        once: dict[str, Entry] = {}
        for entry in self.entries:
            once.setdefault(entry.run_id, entry)
        return [entry for entry in once.values() if self.statuses[entry.run_id].state in states]

    def counts(self) -> dict[str, int]:
        """How many runs are in each state, in the order of STATES."""
        found = Counter(status.state for status in self.statuses.values())
        return {state: found[state] for state in STATES if found[state]}


def make_plan(entries: Sequence[Entry], root: Path, *, strict: bool = False) -> Plan:
    """Find the present status of every run in its folder below `root` and in the queues.

    strict: where SLURM does not answer, raise ConfigError instead of warning.
    """
    run_ids = list(dict.fromkeys(entry.run_id for entry in entries))
    queue: dict[str, str] = dict(LocalQueue(root).states())
    folders = {run_id: RunFolder(root / run_id) for run_id in run_ids}
    records = {run_id: read_record(folder) for run_id, folder in folders.items()}
    open_runs = [run_id for run_id, record in records.items() if not is_finished(record)]
    jobs, warning = slurm.submitted(root, open_runs), ""
    ended: dict[str, str] = {}
    try:
        queue |= slurm.queue(jobs)
        silent = [job for run_id, job in jobs.items() if run_id not in queue and not _has_begun(root / run_id)]
        ended = slurm.ended_states(silent)
    except ConfigError as error:
        if strict:
            raise
        warning = f"{error} Runs that wait in a queue count as missing."
    # Records are read again after the queues: a run that has finished in between is in neither otherwise.
    records |= {run_id: read_record(folders[run_id]) for run_id in open_runs}
    facts, data = {entry.run_id: entry.facts for entry in entries}, DataHere()
    configs = {run_id: known.config if known else None for run_id, known in facts.items()}
    statuses = {
        run_id: find_status(folder, records[run_id], configs[run_id], queue, ended, data.sha256(facts[run_id]))
        for run_id, folder in folders.items()
    }
    return Plan(entries, statuses, warning)


class DataHere:
    """The data on this machine, each data set looked at once."""

    def __init__(self) -> None:
        self._known: dict[str, str | None] = {}

    def sha256(self, facts: RunFacts | None) -> str | None:
        """Of the data that a run would be trained on; None if they are unknown, not here, or were never read here."""
        if facts is None:
            return None
        dataset = facts.config["dataset"]
        if facts.data_sha256 is None and repr(dataset) not in self._known:
            found = remembered(dataset)
            self._known[repr(dataset)] = _content(facts) if found == CHANGED else found
        return facts.data_sha256 or self._known[repr(dataset)]


def _content(facts: RunFacts) -> str | None:
    try:
        return content(run_from_dict(facts.config).dataset)
    except ConfigError:  # whatever is there now, it cannot be read
        return CHANGED


def _has_begun(folder: Path) -> bool:
    """Whether a job that was sent came as far as to start the run."""
    return bool(JobFiles(folder).read_attempts())

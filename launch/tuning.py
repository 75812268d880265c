"""Tuning: what Optuna proposes is trained as runs on a cluster, and poor ones end early (ask and tell).

A tuner that was killed is started again by the same command. It goes on with the runs that it had sent: those of this
machine's queue have gone on in the meantime, and so have SLURM's jobs.
"""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from hashlib import sha256
from importlib import import_module
from pathlib import Path

from filelock import FileLock, Timeout

from sparse_rnn.config.schema import Run
from sparse_rnn.config.stored import run_from_dict
from sparse_rnn.core.command_line import say, warn
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.metrics import Metric, metric_named
from sparse_rnn.core.registry import lookup
from sparse_rnn.data.base import learned
from sparse_rnn.runs.folder import RunFolder, load_record
from sparse_rnn.runs.rows import read_rows
from sparse_rnn.runs.studies import COMPLETE, FAILED, FOLDER, PRUNED, Study, Trial, write_study
from sparse_rnn.tables.catalogue import Catalogue
from sparse_rnn.tables.run_facts import RunFacts

from .clusters import Cluster, LocalCluster
from .plan import make_plan
from .requests import Entry, Request
from .search_space import Parameter
from .states import RunStatus
from .study_journal import StudyJournal
from .submission import cancel_runs, check_data, send, submission_lock

SECONDS_BETWEEN_LOOKS = 2.0
MOST_SENDS = 3  # of a run that is neither queued, nor running, nor over: something takes it away each time
WARM_UP = 0.25  # the share of the epochs in which no run is pruned
VALID = "valid/"


class Tuner:
    """A study and the runs of its trials. Raises ConfigError if an end of a range cannot be composed."""

    def __init__(self, request: Request, space: Sequence[Parameter], cluster: Cluster, root: Path) -> None:
        self._request, self._space, self._cluster, self._root = request, space, cluster, root
        self._catalogue = Catalogue(root / ".launch")
        self._sent: Counter[str] = Counter()
        self._written: list[Trial] = []
        example = self._check()
        run = run_from_dict(example.config)
        metric = judged_by(run)
        self._metric = f"{VALID}{metric.name}"
        self.folder = root / FOLDER / (request.study or name_of(space, request.overrides))
        self._journal = StudyJournal(
            self.folder,
            space,
            request.overrides,
            more_is_better=metric.is_share,
            warm_up=int(WARM_UP * run.training.epochs),
        )

    def _check(self) -> RunFacts:
        """Compose the ends of all ranges, so that what cannot be is refused before anything is sent."""
        first = [parameter.extremes()[0] for parameter in self._space]
        found = self._catalogue.facts([*self._request.overrides, *first])
        for place, parameter in enumerate(self._space):
            for extreme in parameter.extremes()[1:]:
                other = self._catalogue.facts([*self._request.overrides, *first[:place], extreme, *first[place + 1 :]])
                if other.config["dataset"] != found.config["dataset"]:
                    raise ConfigError(f"{parameter.key} cannot be tuned: results on different data do not compare.")
        check_data([Entry(found.run_id, "", "", (), found)])
        self._catalogue.save()
        return found

    def tune(self) -> None:
        """Bring the study to as many trials as are asked for. Raises ConfigError if another tuner is at work on it."""
        try:
            with FileLock(self.folder / "tuner.lock", timeout=0):
                while self._step():
                    time.sleep(SECONDS_BETWEEN_LOOKS)
        except Timeout:
            raise ConfigError(f"{self.folder.name} is being tuned already: wait, or give another study=NAME.") from None
        finally:
            self._catalogue.save()

    def _step(self) -> bool:
        """Report what the runs have done, and fill the places that are free; returns whether any is taken."""
        entries = {number: self._entry(number) for number in self._journal.running()}
        found = make_plan(list(entries.values()), self._root)
        if found.warning:  # where SLURM does not answer, nobody knows which runs are under way
            warn(found.warning)
            return True
        lost = [self._report(number, entry, found.statuses[entry.run_id]) for number, entry in entries.items()]
        free = at_a_time(self._cluster) - len(self._journal.running())
        wanted = self._request.trials - len(self._journal)
        asked = [self._entry(self._journal.ask()) for _ in range(max(0, min(free, wanted)))]
        self._send([*filter(None, lost), *asked])
        self._write()
        return bool(self._journal.running())

    def _report(self, number: int, entry: Entry, status: RunStatus) -> Entry | None:
        """Tell the study how a trial stands; returns its run if that has to be sent (again)."""
        folder = RunFolder(self._root / entry.run_id)
        if status.state in ("failed", "stale"):
            self._end(number, FAILED, status.detail)
        elif status.state == "finished":
            self._journal.report(number, self._curve(folder))
            self._end(number, COMPLETE, "", (load_record(folder) or {})["results"][self._metric])
        elif status.state == "running" and self._journal.report(number, self._curve(folder)):
            cancel_runs([entry], self._root)
            self._end(number, PRUNED, f"after epoch {self._journal.epochs(number)}, worse than the median")
        elif status.state == "missing" and self._sent[entry.run_id] < MOST_SENDS:
            return entry
        elif status.state == "missing":
            self._end(number, FAILED, f"it was sent {MOST_SENDS} times, and is gone again")
        return None

    def _end(self, number: int, state: str, why: str, value: float | None = None) -> None:
        self._journal.tell(number, state, value)
        words = " ".join(f"{key}={text}" for key, text in self._journal.parameters(number).items())
        result = self._journal.value(number)
        metric = metric_named(self._metric)
        shown = metric.shown(result) if metric and result is not None else ""
        say("  ".join(filter(None, [f"trial {number:<3}", f"{state:<8}", f"{shown:>8}", words, why])))
        sys.stdout.flush()  # into a file as well: a study takes hours

    def _curve(self, folder: RunFolder) -> dict[int, float]:
        """What the run is judged by, by epoch."""
        rows = read_rows(folder.metrics)
        return {row["epoch"]: row[self._metric] for row in rows if row.get(self._metric) is not None}

    def _entry(self, number: int) -> Entry:
        parameters = self._journal.parameters(number)
        overrides = (*self._request.overrides, *(f"{key}={text}" for key, text in parameters.items()))
        facts = self._catalogue.facts(overrides)
        return Entry(facts.run_id, "", f"trial {number}", overrides, facts)

    def _send(self, entries: Sequence[Entry]) -> None:
        """Send the runs that are not under way yet: two trials may be the same run."""
        if not entries:
            return
        with submission_lock(self._root):
            missing = make_plan(entries, self._root, strict=True).runs("missing")
            if missing:
                send(missing, self._cluster, self._root)
        self._sent.update(entry.run_id for entry in missing)

    def _write(self) -> None:
        """Write the study if it has changed: to compute importance every two seconds is a waste."""
        if (trials := self._trials()) != self._written:
            write_study(self._study_of(trials), self.folder)
            self._written = trials

    def study(self) -> Study:
        """The study as it stands."""
        return self._study_of(self._trials())

    def _trials(self) -> list[Trial]:
        journal = self._journal
        return [
            Trial(
                number,
                journal.state(number),
                self._entry(number).run_id,
                dict(journal.parameters(number)),
                journal.value(number),
                journal.epochs(number),
            )
            for number in range(len(journal))
        ]

    def _study_of(self, trials: list[Trial]) -> Study:
        space = {parameter.key: str(parameter) for parameter in self._space}
        importance = self._journal.importance()
        return Study(self.folder.name, space, list(self._request.overrides), self._metric, trials, importance)


def judged_by(run: Run) -> Metric:
    """What a run of this configuration is judged by."""
    import_module("sparse_rnn.training.assembly")  # which registers the tasks
    metric = metric_named(lookup("task", learned(run.dataset)).metric)
    assert metric is not None
    return metric


def at_a_time(cluster: Cluster) -> int:
    """How many trials run at a time."""
    return cluster.runs_at_a_time() if isinstance(cluster, LocalCluster) else cluster.parallel


def name_of(space: Sequence[Parameter], overrides: Sequence[str]) -> str:
    """A name for a study that has none: the keys, and a digest of all that is asked for."""
    keys = "-".join(parameter.key.rpartition(".")[2] for parameter in space)
    asked = repr([sorted(f"{each.key}={each}" for each in space), list(overrides)])
    return f"{keys}-{sha256(asked.encode()).hexdigest()[:8]}"

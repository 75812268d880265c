"""What a table or figure is made from: its declaration, its runs, and what the logs hold of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from results.sources import choice as sources
from results.sources.logs import LoggedRun, Logs
from sparse_rnn.config.stored import changed_keys
from sparse_rnn.runs.folder import runs_root
from sparse_rnn.tables.catalogue import Catalogue, RunFacts
from sparse_rnn.tables.declaration import TableSpec, load
from sparse_rnn.tables.expansion import PlannedRun, expand

Planned = PlannedRun[RunFacts]
UNREAD = Logs("none", {})


@dataclass(frozen=True)
class Asked:
    """A table or figure, every run that it needs, and the logs.

    overrides: the user's, which go to every run. as_declared: whether the runs are those of the file nevertheless.
    """

    spec: TableSpec
    planned: Sequence[Planned]
    logs: Logs = UNREAD
    overrides: tuple[str, ...] = ()
    as_declared: bool = True

    def run(self, planned: Planned) -> LoggedRun | None:
        """What the logs hold of a run, None if nothing."""
        return self.logs.runs.get(planned.run_id)

    def finished(self) -> Iterator[tuple[Planned, LoggedRun]]:
        """Every run that is finished, where the declaration has it."""
        for planned in self.planned:
            run = self.run(planned)
            if run is not None and run.final is not None:
                yield planned, run

    @property
    def missing(self) -> list[Planned]:
        """What is not finished."""
        there = {planned.run_id for planned, _ in self.finished()}
        return [planned for planned in self.planned if planned.run_id not in there]

    @cached_property
    def comparable(self) -> bool:
        """Whether the numbers may be set against the paper's: the runs are those of the file, at the paper's size."""
        return self.as_declared and all(run.facts.config["budget"]["name"] == "paper" for run in self.planned)

    def answered(self, logs: Logs) -> "Asked":
        """The same with what logs hold of its runs. A run with other values than are asked for now is left out."""
        runs, problems = {}, list(logs.problems)
        for run_id, planned in {planned.run_id: planned for planned in self.planned}.items():
            if (log := logs.runs.get(run_id)) is None:
                continue
            if changed := changed_keys(log.config, planned.facts.config):
                problems.append(f"{run_id} is stale: its log has other values of {', '.join(changed)}.")
            else:
                runs[run_id] = log
        return replace(self, logs=Logs(logs.source, runs, tuple(problems)))


def declared(
    name: str, catalogue: Catalogue, *, overrides: Sequence[str] = (), seeds: Sequence[int] | None = None
) -> Asked:
    """A table or figure by name, before any log is read; raises ConfigError."""
    spec = load(name)
    planned = expand(spec, catalogue.facts, seeds=seeds, overrides=overrides)
    same = not overrides or _are_those_of(spec, planned, catalogue, seeds)
    return Asked(spec, planned, overrides=tuple(overrides), as_declared=same)


def _are_those_of(
    spec: TableSpec, planned: Sequence[Planned], catalogue: Catalogue, seeds: Sequence[int] | None
) -> bool:
    """Whether overrides have changed no run; the first block, which mostly tells, is looked at alone before."""
    for part in (replace(spec, blocks=spec.blocks[:1]), spec):
        own = [run.run_id for run in expand(part, catalogue.facts, seeds=seeds)]
        if own != [run.run_id for run in planned[: len(own)]]:
            return False
    return True


def ask(
    names: Sequence[str], *, source: str = "runs", overrides: Sequence[str] = (), seeds: Sequence[int] | None = None
) -> list[Asked]:
    """Tables and figures by name, with the logs of their runs; `overrides` and `seeds` as `python -m launch` has them.

    Raises ConfigError.
    """
    catalogue = Catalogue(runs_root() / ".launch")
    try:
        found = [declared(name, catalogue, overrides=overrides, seeds=seeds) for name in names]
    finally:
        catalogue.save()
    logs = sources.load(source, {run.run_id for asked in found for run in asked.planned})
    return [asked.answered(logs) for asked in found]

"""What a table or figure is made from: its declaration, its runs, and what the logs hold of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from launch.catalogue import Catalogue, RunFacts
from results import sources
from results.logs import LoggedRun, Logs
from sparse_rnn.identity import NOT_IDENTITY
from sparse_rnn.run_folder import runs_root
from sparse_rnn.table import PlannedRun, TableSpec, expand, load

Planned = PlannedRun[RunFacts]


@dataclass(frozen=True)
class Asked:
    """A table or figure, every run that it needs, and the logs.

    overrides: the user's, which go to every run; seeds: the user's, None: those of the file.
    """

    spec: TableSpec
    planned: Sequence[Planned]
    logs: Logs
    overrides: tuple[str, ...] = ()
    seeds: tuple[int, ...] | None = None

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

    @property
    def as_declared(self) -> bool:
        """Whether the runs are those of the file, so that their numbers may be set against the paper's."""
        keys = {override.lstrip("+~").partition("=")[0].partition(".")[0] for override in self.overrides}
        return not keys - NOT_IDENTITY


def ask(
    names: Sequence[str], *, source: str = "runs", overrides: Sequence[str] = (), seeds: Sequence[int] | None = None
) -> list[Asked]:
    """Tables and figures by name, with the logs of their runs; `overrides` and `seeds` as `python -m launch` has them.

    Raises ConfigError.
    """
    catalogue = Catalogue(runs_root() / ".launch")
    try:
        specs = [load(name) for name in names]
        planned = [expand(spec, catalogue.facts, seeds=seeds, overrides=overrides) for spec in specs]
    finally:
        catalogue.save()
    logs = sources.load(source, {run.run_id for runs in planned for run in runs})
    own = None if seeds is None else tuple(seeds)
    return [Asked(spec, runs, logs, tuple(overrides), own) for spec, runs in zip(specs, planned, strict=True)]

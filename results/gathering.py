"""What a table or figure is made from: its declaration, the runs that it needs, and what the logs hold of them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from sparse_rnn.config.stored import changed_keys
from sparse_rnn.core.bounds import refuse_runs
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.runs.folder import runs_root
from sparse_rnn.tables.catalogue import Catalogue
from sparse_rnn.tables.declaration import TableSpec, load
from sparse_rnn.tables.expansion import PlannedRun, count_runs, expand
from sparse_rnn.tables.run_facts import RunFacts

from .names import RUNS
from .sources import choice as sources
from .sources.logs import LoggedRun, Logs
from .sweeps import Sweep, figure_of, table_of

Planned = PlannedRun[RunFacts]
UNREAD = Logs("none", {})
PAPERS = ("Selfish-RNN (ICML 2021)", "ST-RNN (NCAA 2021)")  # begin the `source` of what they have
SUBJECT = ("model", "dataset", "optimizer", "sparsifier", "growth")  # what the title of a table may speak of


@dataclass(frozen=True)
class Gathered:
    """A table or figure, every run that it needs, and the logs of these runs.

    planned: a run that stands in several rows is there once for each. overrides: the user's, which go to every run.
    as_declared: whether the runs are those of the file, with or without overrides. chosen: those of the overrides that
    choose another model, data set, optimizer or method than the file does. training: of a sweep, the command that
    trains its runs.
    """

    spec: TableSpec
    planned: Sequence[Planned]
    logs: Logs = UNREAD
    overrides: tuple[str, ...] = ()
    as_declared: bool = True
    training: str = ""
    chosen: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """The title of the file, unless the runs are about something else."""
        return f"{self.spec.name} with {', '.join(self.chosen)}" if self.chosen else self.spec.title

    @property
    def of_a_paper(self) -> bool:
        """Whether a paper has it; a user's own is compared with none."""
        return self.spec.source.startswith(PAPERS)

    def run(self, planned: Planned) -> LoggedRun | None:
        """What the logs hold of a run, None if nothing."""
        return self.logs.runs.get(planned.run_id)

    def finished(self) -> Iterator[tuple[Planned, LoggedRun]]:
        """Every finished run with its place in the table, in the order of the declaration."""
        for planned in self.planned:
            run = self.run(planned)
            if run is not None and run.final is not None:
                yield planned, run

    @property
    def missing(self) -> list[Planned]:
        """The runs that are not finished."""
        there = {planned.run_id for planned, _ in self.finished()}
        return [planned for planned in self.planned if planned.run_id not in there]

    @cached_property
    def comparable(self) -> bool:
        """Whether the numbers may be compared with the paper's: the runs are those of the file, at the paper's size."""
        return self.as_declared and all(run.facts.config["budget"]["name"] == "paper" for run in self.planned)

    def with_logs(self, logs: Logs) -> "Gathered":
        """The same table with what the logs hold of its runs.

        A run whose logged configuration differs from today's is left out, with a sentence in `logs.problems`.
        """
        runs, problems = {}, list(logs.problems)
        for run_id, planned in {planned.run_id: planned for planned in self.planned}.items():
            if (log := logs.runs.get(run_id)) is None:
                continue
            try:
                changed = changed_keys(log.config, planned.facts.config)
            except ConfigError as error:
                problems.append(f"{log.link} is stale: {error}")
                continue
            if changed:
                problems.append(f"{run_id} is stale: it was trained with other values of {', '.join(changed)}.")
            else:
                runs[run_id] = log
        return replace(self, logs=Logs(logs.source, runs, tuple(problems)))


def plan(
    name: str, catalogue: Catalogue, *, overrides: Sequence[str] = (), seeds: Sequence[int] | None = None
) -> Gathered:
    """A table or figure by name with the runs that it needs, before any log is read; raises ConfigError."""
    spec = load(name)
    planned = expand(spec, catalogue.facts, seeds=seeds, overrides=overrides)
    same = not overrides or _are_those_of(spec, planned, catalogue, seeds)
    chosen = () if same else _other_choices(spec, planned, catalogue, overrides)
    return Gathered(spec, planned, overrides=tuple(overrides), as_declared=same, chosen=chosen)


def _other_choices(
    spec: TableSpec, planned: Sequence[Planned], catalogue: Catalogue, overrides: Sequence[str]
) -> tuple[str, ...]:
    """The overrides that choose other components of SUBJECT than the file."""
    choosing = {override: override.lstrip("+").partition("=")[0] for override in overrides}
    choosing = {override: group for override, group in choosing.items() if group in SUBJECT}
    if not choosing:
        return ()
    try:
        own = expand(spec, catalogue.facts, seeds=[1], overrides=[each for each in overrides if each not in choosing])
    except ConfigError:  # the other overrides only go with these
        return tuple(choosing)

    def named(runs: Sequence[Planned], group: str) -> set[tuple[str, str, str]]:
        return {(run.block, run.row, run.facts.config[group]["name"]) for run in runs}

    return tuple(each for each, group in choosing.items() if named(own, group) != named(planned, group))


def _are_those_of(
    spec: TableSpec, planned: Sequence[Planned], catalogue: Catalogue, seeds: Sequence[int] | None
) -> bool:
    """Whether overrides have changed no run."""
    # The first block alone mostly shows a difference already, and spares composing all others a second time.
    for part in (replace(spec, blocks=spec.blocks[:1]), spec):
        own = [run.run_id for run in expand(part, catalogue.facts, seeds=seeds)]
        if own != [run.run_id for run in planned[: len(own)]]:
            return False
    return True


def plan_sweep(sweep: Sweep, catalogue: Catalogue, *, figure: bool) -> Gathered:
    """A sweep as a table or a figure, with its runs, before any log is read; raises ConfigError."""
    spec, planned = (figure_of if figure else table_of)(sweep, catalogue.facts)
    return Gathered(spec, planned, overrides=tuple(sweep.overrides), as_declared=False, training=sweep.training)


def gather(
    names: Sequence[str],
    *,
    source: str = RUNS,
    overrides: Sequence[str] = (),
    seeds: Sequence[int] | None = None,
    sweep: Sweep | None = None,
    figure: bool = False,
) -> list[Gathered]:
    """Tables and figures by name, with the logs of their runs; last a sweep, as a figure or else as a table.

    source: see `sources.choice.load`. overrides, seeds: as on the command line of `launch`. Raises ConfigError.
    """
    refuse_runs(runs := sum(count_runs(load(name), seeds) for name in names))
    catalogue = Catalogue(runs_root() / ".launch")
    with catalogue.expecting(runs):
        found = [plan(name, catalogue, overrides=overrides, seeds=seeds) for name in names]
    found += [plan_sweep(sweep, catalogue, figure=figure)] if sweep else []
    catalogue.save()
    logs = sources.load(source, {run.run_id for gathered in found for run in gathered.planned})
    return [gathered.with_logs(logs) for gathered in found]

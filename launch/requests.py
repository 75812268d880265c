"""A command line of `python -m launch`, parsed, and the runs it is about: of tables, of a sweep, or sent before."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any

from sparse_rnn.config.differing import labels
from sparse_rnn.config.stored import check_config
from sparse_rnn.core.bounds import MOST_RUNS, check_whole, is_whole, refuse_runs
from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.runs.folder import RunFolder, read_record
from sparse_rnn.tables.catalogue import Catalogue
from sparse_rnn.tables.declaration import ALL, TableSpec, load
from sparse_rnn.tables.declaration import names as table_names
from sparse_rnn.tables.expansion import count_runs, expand
from sparse_rnn.tables.overrides import parse_seeds
from sparse_rnn.tables.run_facts import RunFacts
from sparse_rnn.tables.sweep import parse_sweep, points_of, sweep_values

from .job import JobFiles
from .search_space import is_searched

SEEDS = "seeds"
FLAGS = {
    "plan": {"--sweep"},
    "submit": {"--sweep", "--retry", "--dry-run"},
    "status": {"--sweep", "--watch"},
    "cancel": {"--sweep", "--yes"},
    "logs": set(),
    "tune": set(),
}
TRIALS, STUDY = "trials", "study"
DEFAULT_TRIALS = 20
NAME = re.compile(r"[\w.-]*\w")


@dataclass(frozen=True)
class Request:
    """A parsed command line: names of tables and figures, overrides of all runs and of the cluster.

    space: what `tune` searches, of the study with this name (None: one made of what is asked for), in that many trials.
    """

    command: str
    names: list[str] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)
    cluster: list[str] = field(default_factory=list)
    seeds: list[int] | None = None
    sweep: list[str] = field(default_factory=list)
    flags: frozenset[str] = frozenset()
    space: list[str] = field(default_factory=list)
    trials: int = DEFAULT_TRIALS
    study: str | None = None


@dataclass(frozen=True)
class Entry:
    """One run as it is asked for: its block and label in a table, its overrides, and its facts (None: unknown)."""

    run_id: str
    block: str
    label: str
    overrides: tuple[str, ...] = ()
    facts: RunFacts | None = None


def parse(command: str, arguments: Sequence[str]) -> Request:
    """The request of a command line; raises ConfigError."""
    request, flags, rest = Request(command), set(), list(arguments)
    while rest:
        argument = rest.pop(0)
        key, equals, value = argument.partition("=")
        if key == "--sweep" and key in FLAGS[command]:
            request.sweep.extend(parse_sweep(value if equals else rest.pop(0) if rest else ""))
        elif argument.startswith("--"):
            flags.add(_flag(command, argument))
        elif command == "tune" and is_searched(argument):
            request.space.append(argument)
        elif command == "tune" and key in (TRIALS, STUDY):
            request = replace(request, **_of_study(key, value))
        elif not equals:
            request.names.append(argument)
        elif key == SEEDS:
            request = replace(request, seeds=parse_seeds(value))
        elif (plain := argument.lstrip("+")).startswith(("cluster=", "cluster.")):
            request.cluster.append(plain)
        else:
            request.overrides.append(argument)
    return replace(request, flags=frozenset(flags))


def _of_study(key: str, value: str) -> dict[str, Any]:
    if key == STUDY:
        if not NAME.fullmatch(value):
            raise ConfigError(f"study={value} must be a name of letters, digits, '-', '_' and '.'.")
        return {STUDY: value}
    if not is_whole(value):
        raise ConfigError(f"trials={value} must be a whole number.")
    check_whole(TRIALS, int(value), 1, MOST_RUNS)
    return {TRIALS: int(value)}


def _flag(command: str, argument: str) -> str:
    if argument not in FLAGS[command]:
        known = suggest(argument, FLAGS[command]) or " (it has no options)"
        raise ConfigError(f"{command} does not know {argument}{known}.")
    return argument


def entries(request: Request, catalogue: Catalogue) -> list[Entry]:
    """All runs that a request names, in order; raises ConfigError."""
    if not request.names and not request.sweep:
        raise ConfigError("Which runs? Give tables or figures, as in `plan table2 figure5`, or all, or --sweep '...'.")
    specs = [load(name) for name in (table_names() if ALL in request.names else dict.fromkeys(request.names))]
    sweep = sweep_values(request.sweep, request.seeds)
    runs = sum(count_runs(spec, request.seeds) for spec in specs) + (prod(map(len, sweep)) if sweep else 0)
    refuse_runs(runs)
    with catalogue.expecting(runs):
        found = [*_of_tables(specs, request, catalogue), *_of_sweep(sweep, request, catalogue)]
    catalogue.save()
    return found


def _of_tables(specs: Sequence[TableSpec], request: Request, catalogue: Catalogue) -> Iterator[Entry]:
    for spec in specs:
        for run in expand(spec, catalogue.facts, seeds=request.seeds, overrides=request.overrides):
            x = f", {run.x}" if run.x is not None else ""
            block = f"{spec.name}: {run.block}" if run.block else spec.name
            yield Entry(run.run_id, block, f"{run.row}{x}, seed {run.seed}", run.overrides, run.facts)


def _of_sweep(sweep: Sequence[Sequence[str]], request: Request, catalogue: Catalogue) -> Iterator[Entry]:
    found = list(points_of(sweep, request.overrides, catalogue.facts))
    for (point, facts), label in zip(found, labels([facts.config for _, facts in found]), strict=True):
        yield Entry(facts.run_id, "sweep", label or " ".join(point), (*request.overrides, *point), facts)


def sent_before(request: Request, root: Path) -> list[Entry]:
    """Every run below `root` that was sent to a cluster, labelled by what sets it apart from the others.

    Raises ConfigError if the request would choose among them.
    """
    if request.overrides or request.seeds:
        raise ConfigError("Overrides and seeds choose among the runs of tables or of a --sweep: name one.")
    folders = sorted(path.parent for path in root.glob(f"*/{JobFiles(Path()).submission.name}"))
    configs = {folder.name: config for folder in folders if (config := _sent_config(folder))}
    known = dict(zip(configs, labels(list(configs.values())), strict=True))
    return [Entry(folder.name, "", known.get(folder.name, "")) for folder in folders]


def _sent_config(folder: Path) -> Mapping[str, Any] | None:
    """The configuration of a run that was sent, as its record or else its submission has it; None if neither can."""
    record = read_record(RunFolder(folder)) or JobFiles(folder).read_submission()
    config: dict[str, Any] = record.get("config", {})
    try:
        check_config(config)
    except ConfigError:
        return None
    return config

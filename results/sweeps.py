"""A table or a figure of any sweep, without a file: its layout follows from the values that are swept over."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

from sparse_rnn.config.differing import labels, short_names
from sparse_rnn.core.bounds import refuse_runs
from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.core.wording import counted
from sparse_rnn.data.labels import dataset_name
from sparse_rnn.tables.declaration import Axis, Block, Row, TableSpec
from sparse_rnn.tables.expansion import PlannedRun
from sparse_rnn.tables.run_facts import RunFacts
from sparse_rnn.tables.settings import key_of
from sparse_rnn.tables.sweep import Point, points_of, sweep_values

from .names import LAUNCH

Planned = PlannedRun[RunFacts]
NAME = "sweep"
COLUMNS = ("parameters", "valid", "test")
MOST_BESIDE = 4  # values of a key that stand side by side, each with all columns
EPOCH = "epoch"  # in the place of a swept key: the curves of training
SEED = "seed"
NAMED = 10  # missing runs that a note names


@dataclass(frozen=True)
class Sweep:
    """What `--sweep` asks for, and what goes to all its runs. x: what a figure is drawn over, see `axis_of`."""

    swept: Sequence[str]
    overrides: Sequence[str] = ()
    seeds: Sequence[int] | None = None
    x: str | None = None

    @property
    def arguments(self) -> list[str]:
        """The same as words of a command line."""
        return ["--sweep", shlex.join(self.swept)]

    @property
    def training(self) -> str:
        """The command that trains what is missing."""
        seeds = [f"seeds={','.join(map(str, self.seeds))}"] if self.seeds else []
        return shlex.join(["python", "-m", LAUNCH, "submit", *self.arguments, *self.overrides, *seeds])


@dataclass(frozen=True)
class _Points:
    """The runs of a sweep, and the values of each key that has several, seeds apart."""

    found: Sequence[tuple[Point, RunFacts]]
    values: Mapping[str, Sequence[str]]

    @cached_property
    def short(self) -> Mapping[str, str]:
        """What the keys are called in labels."""
        return short_names(self.values)

    def label(self, point: Mapping[str, str], keys: Sequence[str]) -> str:
        """The values of some keys at a point, as `sparsity=0.9 lr=20`."""
        return " ".join(f"{self.short[key]}={point[key]}" for key in keys)


def table_of(sweep: Sweep, compose: Callable[[Sequence[str]], RunFacts]) -> tuple[TableSpec, list[Planned]]:
    """A table with a row for each combination, the values of one key side by side; raises ConfigError."""
    points = _points(sweep, compose)
    blocks = _beside(points.values)
    rows = [key for key in points.values if key not in blocks]
    return _spec(points, rows, blocks, COLUMNS), list(_planned(sweep, points, rows, blocks))


def figure_of(sweep: Sweep, compose: Callable[[Sequence[str]], RunFacts]) -> tuple[TableSpec, list[Planned]]:
    """A figure over a swept number, or else over epochs, with a curve for each combination of the other keys.

    Raises ConfigError, also if x is no such number.
    """
    points = _points(sweep, compose)
    x = axis_of(sweep.x, points.values, [facts.config for _, facts in points.found])
    curves = [key for key in points.values if key != x]
    return _spec(points, curves, [], (), x), list(_planned(sweep, points, curves, [], x))


def axis_of(asked: str | None, values: Mapping[str, Sequence[str]], configs: Sequence[Mapping[str, Any]]) -> str | None:
    """The swept number that a figure is drawn over; None for epochs. asked: the user's, by its key or short name.

    By default that with the most values, the first of several; epochs if no number is swept. Raises ConfigError.
    """
    numbers = {key: len(each) for key, each in values.items() if all(_is_number(config, key) for config in configs)}
    if asked is None:
        return max(numbers, key=lambda key: numbers[key]) if numbers else None
    short = short_names(values)
    named = {name: key for key in numbers for name in (key, short[key])}
    if asked != EPOCH and asked not in named:
        raise ConfigError(f"--x {asked} is no number that the sweep varies{suggest(asked, [*named, EPOCH])}.")
    return named.get(asked)


def missing_note(missing: Sequence[Planned], of: Sequence[Planned], training: str) -> str:
    """Which runs of a sweep are missing, and the command that trains them."""
    wanted = {run.run_id: run for run in of}
    named = dict(zip(wanted, labels([run.facts.config for run in wanted.values()]), strict=True))
    absent = list(dict.fromkeys(run.run_id for run in missing))
    shown = [named[run_id] or run_id for run_id in absent[:NAMED]]
    more = [f"{len(absent) - NAMED} more"] if len(absent) > NAMED else []
    are = "is" if len(absent) == 1 else "are"
    return (
        f"{len(absent)} of {counted(len(wanted), 'run')} {are} missing ({'; '.join([*shown, *more])}): "
        f"train {'it' if len(absent) == 1 else 'them'} with `{training}`."
    )


def _points(sweep: Sweep, compose: Callable[[Sequence[str]], RunFacts]) -> _Points:
    values = sweep_values(sweep.swept, sweep.seeds)
    refuse_runs(prod(map(len, values)))
    several = {key_of(each[0]): [_value(override) for override in each] for each in values if len(each) > 1}
    several.pop(SEED, None)
    return _Points(list(points_of(values, sweep.overrides, compose)), several)


def _value(override: str) -> str:
    return override.partition("=")[2]


def _beside(values: Mapping[str, Sequence[str]]) -> list[str]:
    """The key whose values stand side by side: of several keys the last one that has few of them."""
    few = [key for key, each in values.items() if len(each) <= MOST_BESIDE]
    return (few or list(values))[-1:] if len(values) > 1 else []


def _at(point: Point) -> dict[str, str]:
    return {key_of(override): _value(override) for override in point}


def _spec(
    points: _Points, rows: Sequence[str], blocks: Sequence[str], columns: tuple[str, ...], x: str | None = None
) -> TableSpec:
    configs = [facts.config for _, facts in points.found]
    at = [_at(point) for point, _ in points.found]
    labelled = dict.fromkeys(points.label(each, rows) or _plain(configs[0]) for each in at)
    axis = Axis(x, tuple(points.values[x])) if x else None
    made = [
        Block(label, tuple(map(Row, labelled)), beside=k > 0, x=axis)
        for k, label in enumerate(dict.fromkeys(points.label(each, blocks) for each in at))
    ]
    seeds = tuple(dict.fromkeys(config[SEED] for config in configs))
    return TableSpec(NAME, _title(points, configs), "", columns, seeds, (), tuple(made))


def _planned(
    sweep: Sweep, points: _Points, rows: Sequence[str], blocks: Sequence[str], x: str | None = None
) -> Iterator[Planned]:
    plain = _plain(points.found[0][1].config)
    for point, facts in points.found:
        at, overrides = _at(point), (*sweep.overrides, *point)
        row, block = points.label(at, rows) or plain, points.label(at, blocks)
        yield PlannedRun(NAME, block, row, at[x] if x else None, facts.config[SEED], overrides, facts)


def _plain(config: Mapping[str, Any]) -> str:
    """The name of the only row of a sweep over seeds alone."""
    return f"{config['model']['name']}, {config['sparsifier']['name']}"


def _title(points: _Points, configs: Sequence[Mapping[str, Any]]) -> str:
    """What was swept over, of which models and data."""
    over = ", ".join(points.short.values()) or "seeds"
    models = dict.fromkeys(config["model"]["name"] for config in configs)
    data = dict.fromkeys(dataset_name(config["dataset"]) for config in configs)
    return f"Sweep over {over}: {' and '.join(models)} on {' and '.join(data)}"


def _is_number(config: Mapping[str, Any], key: str) -> bool:
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return isinstance(value, int | float) and not isinstance(value, bool)

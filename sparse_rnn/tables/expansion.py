"""The runs of a table or figure."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.tables.declaration import Axis, Block, Row, TableSpec
from sparse_rnn.tables.field_types import Value, check_seeds
from sparse_rnn.tables.settings import Settings, merged


class Composed(Protocol):
    """What expansion needs to know of a composed run: its id, and its configuration as plain dictionaries."""

    @property
    def run_id(self) -> str: ...

    @property
    def config(self) -> Mapping[str, Any]: ...


Facts = TypeVar("Facts", bound=Composed)
Compose = Callable[[Sequence[str]], Facts]


@dataclass(frozen=True)
class PlannedRun(Generic[Facts]):
    """One run of a table: the place of its result, and the overrides for `python -m sparse_rnn.train`.

    x: the value as the file has it; None in a block without x, and for a line.
    """

    table: str
    block: str
    row: str
    x: Value | None
    seed: int
    overrides: tuple[str, ...]
    facts: Facts

    @property
    def run_id(self) -> str:
        """The id of the run."""
        return self.facts.run_id


def expand(
    spec: TableSpec, compose: Compose[Facts], *, seeds: Sequence[int] | None = None, overrides: Sequence[str] = ()
) -> list[PlannedRun[Facts]]:
    """Every run of a table, in the table's order.

    compose: gives the facts of a run by its overrides. seeds: in place of the table's. overrides: come after the
    table's own; if they choose another budget, numbers of the file that depend on the budget, such as model.hidden,
    are scaled in proportion. Raises ConfigError naming the block and row whose run is invalid.
    """
    user = merged(overrides)
    _refuse_overrides(spec, user)
    if seeds is not None:
        check_seeds(seeds)
    planned: list[PlannedRun[Facts]] = []
    for block, row, x in _cells(spec):
        try:
            settings = merged(spec.common, block.common, row.overrides, _override(block.x, x))
            settings = _at_budget(settings, user, compose)
            for seed in seeds or block.seeds or spec.seeds:
                final = tuple(merged(settings.values(), [f"seed={seed}"], user.values()).values())
                planned.append(PlannedRun(spec.name, block.label, row.label, x, seed, final, compose(final)))
        except ConfigError as error:
            raise ConfigError(f"{spec.file}, block {block.label!r}, {_row_at(block, row.label, x)}: {error}") from error
    if not user:  # whose overrides may make rows equal, as one optimizer for all does
        _refuse_equal(spec, planned)
    return planned


def count_runs(spec: TableSpec, seeds: Sequence[int] | None = None) -> int:
    """How many runs `expand` would compose, one that stands in several rows as often as it does there."""
    return sum(len(seeds or block.seeds or spec.seeds) for block, _, _ in _cells(spec))


def _cells(spec: TableSpec) -> Iterator[tuple[Block, Row, Value | None]]:
    for block in spec.blocks:
        for row in block.rows:
            values = block.x.values if block.x and not row.line else (None,)
            yield from ((block, row, value) for value in values if not row.reported)


def _override(x: Axis | None, value: Value | None) -> list[str]:
    return [] if x is None or value is None else [f"{x.key}={value}"]


def _row_at(block: Block, row: str, x: Value | None) -> str:
    return " at ".join([f"row {row!r}", *_override(block.x, x)])


def _at_budget(settings: Settings, user: Settings, compose: Compose[Facts]) -> Settings:
    """A file's settings under the user's budget: 700 of the paper's 1500 units become 93 of 200.

    The numbers of a row are relative to the other rows. Unscaled, a "Small dense" network of 700 units would be the
    largest of a table whose other rows have 200.
    """
    own = settings.get("budget", "budget=paper")
    numbers = {key: number for key in settings.keys() - user if (number := _number(key, settings[key])) is not None}
    if not numbers or user.get("budget", own) == own:
        return settings
    # The same settings without those numbers, under both budgets, show what each budget would choose in their place.
    others = [override for key, override in settings.items() if key not in numbers]
    try:
        before = compose(list(merged(others, user.values(), [own]).values()))
        after = compose(list(merged(others, user.values()).values()))
    except ConfigError:
        return settings  # the run itself fails in the same way, with an error that names it
    scaled = dict(settings)
    for key, number in numbers.items():
        old, new = _value(before.config, key), _value(after.config, key)
        if old and new and old != new:
            size = number * new / old
            scaled[key] = f"{key}={max(1, round(size)) if isinstance(old, int) else format(size, '.4g')}"
    return scaled


def _number(key: str, override: str) -> float | None:
    try:
        return float(override.removeprefix(f"{key}="))
    except ValueError:
        return None


def _value(config: Mapping[str, Any], key: str) -> int | float | None:
    value: Any = config
    for name in key.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, int | float) else None


def _refuse_overrides(spec: TableSpec, user: Settings) -> None:
    if "seed" in user:
        raise ConfigError(f"{user['seed']} would give every run of {spec.name} the same seed: give seeds= instead.")
    for block in spec.blocks:
        if block.x and block.x.key in user:
            raise ConfigError(f"{spec.file} varies {block.x.key}: leave {user[block.x.key]} out.")


def _refuse_equal(spec: TableSpec, planned: Iterable[PlannedRun[Facts]]) -> None:
    blocks = {block.label: block for block in spec.blocks}
    seen: dict[tuple[str, str], str] = {}
    for run in planned:
        place = _row_at(blocks[run.block], run.row, run.x)
        first = seen.setdefault((run.block, run.run_id), place)
        if first != place:
            raise ConfigError(f"{spec.file}, block {run.block!r}: {first} and {place} are the same run.")

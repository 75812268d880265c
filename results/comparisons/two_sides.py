"""`results compare A B`: two sets of overrides, compared over their seeds."""

import shlex
from collections.abc import Iterator

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.runs.folder import runs_root
from sparse_rnn.tables.catalogue import Catalogue
from sparse_rnn.tables.declaration import Block, Row, TableSpec
from sparse_rnn.tables.expansion import expand

from ..gathering import Gathered
from ..names import LAUNCH
from ..requests import Request
from ..sources import choice as sources
from ..tables.grid import Field, Grid, Heading, Section
from .pairs import Pair, pair_of

NAME = "comparison"
SEEDS = (1, 2, 3)


def gather_sides(request: Request) -> Gathered:
    """The runs of both sides, and what the logs hold of them; raises ConfigError."""
    rows = tuple(Row(label, _overrides(side)) for label, side in zip("AB", request.sides, strict=True))
    spec = TableSpec(NAME, f"{request.sides[0]} against {request.sides[1]}", "", (), SEEDS, (), (Block("", rows),))
    catalogue = Catalogue(runs_root() / ".launch")
    planned = expand(spec, catalogue.facts, seeds=request.seeds, overrides=request.overrides)
    catalogue.save()
    if {run.run_id for run in planned if run.row == "A"} & {run.run_id for run in planned if run.row == "B"}:
        raise ConfigError(f"{' and '.join(map(repr, request.sides))} are the same runs: change one of the two.")
    gathered = Gathered(spec, planned, overrides=tuple(request.overrides), as_declared=False)
    return gathered.with_logs(sources.load(request.source, {run.run_id for run in planned}))


def _overrides(side: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(side))
    except ValueError as error:
        raise ConfigError(f"{side!r} cannot be read ({error}): write key=value, separated by spaces.") from None


def training(gathered: Gathered, request: Request) -> Iterator[str]:
    """The command that trains what is missing, for each side that lacks a run."""
    for label, side in zip("AB", request.sides, strict=True):
        seeds = [run.seed for run in gathered.missing if run.row == label]
        if seeds:
            sweep = f"{side} seed={','.join(map(str, seeds))}"
            yield shlex.join(["python", "-m", LAUNCH, "submit", "--sweep", sweep, *request.overrides])


def as_table(gathered: Gathered, request: Request, command: str) -> Grid:
    """The values of both sides by seed, and what their difference says; raises ConfigError."""
    pair = pair_of(gathered, gathered.spec.blocks[0], request.metric)
    seeds = dict.fromkeys(run.seed for run in gathered.planned)
    return Grid(
        NAME,
        f"{pair.metric}: {gathered.title}",
        "",
        ((Heading(""), Heading("A"), Heading("B"), Heading("A - B")),),
        (Section("", tuple(_row(pair, seed) for seed in seeds)),),
        (*(f"{label}: {side}" for label, side in zip("AB", request.sides, strict=True)), pair.sentence),
        (f"Source: {gathered.logs.source}", f"Made by: {command}"),
    )


def _row(pair: Pair, seed: int) -> tuple[Field, ...]:
    a, b = (values.get(seed) for values in pair.by_seed)
    both = None if a is None or b is None else pair.shown(a - b, difference=True, signed=True)
    shown = [None if value is None else pair.shown(value) for value in (a, b)]
    return (Field(f"seed {seed}"), *(Field(text or "missing", muted=text is None) for text in (*shown, both)))

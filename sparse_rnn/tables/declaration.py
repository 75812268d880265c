"""A table or figure as a file of conf/table or conf/figure declares it.

The fields of the dataclasses are the keys of such a file: pydantic checks the file against them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, TypeAdapter, ValidationError, with_config

from sparse_rnn.core.conf import config_dir
from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.tables.field_types import Columns, DifferentLabels, Flag, GivenAxis, Key, Overrides, Seeds, Text, Values
from sparse_rnn.tables.validation_messages import sentence

KINDS = ("table", "figure")
ALL = "all"  # on a command line: every table and figure


@dataclass(frozen=True, slots=True)
class Axis:
    """What a panel varies: its rows are run once with each of the `values` of the override `key`."""

    key: Key
    values: Values


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table, or a curve or bar of a panel.

    overrides: `with` in the file. reported: a number from the literature, without a run. line: run once instead of once
    per value of x, and drawn as a line across the panel.
    """

    label: Text
    overrides: Annotated[Overrides, Field(alias="with")] = ()
    reported: Flag = False
    line: Flag = False

    def __post_init__(self) -> None:
        if self.reported and self.overrides:
            raise ValueError("a reported number has no run: leave with or reported out")


@dataclass(frozen=True, slots=True)
class Block:
    """A group of rows of a table, or a panel of a figure.

    beside: to the right of the previous block, with rows matched by label. seeds, common: in place of the file's seeds,
    and after the file's settings.
    """

    label: Text
    rows: Annotated[
        tuple[Row, ...], Field(min_length=1, description="a list of rows, with at least one"), DifferentLabels
    ]
    beside: Flag = False
    seeds: Seeds = ()
    common: Overrides = ()
    x: Annotated[Axis | None, GivenAxis, Field(description="a mapping with key and values")] = None

    def __post_init__(self) -> None:
        for row in self.rows:
            if row.line and not self.x:
                raise ValueError(f"row {row.label!r} has line, which means nothing in a block without x")


@with_config(extra="forbid")  # in the dataclasses inside it as well
@dataclass(frozen=True, kw_only=True)
class FigureFile:
    """A file of conf/figure. blocks_of: the table whose seeds, common and blocks it has, in place of its own."""

    title: Text
    source: Text
    seeds: Seeds
    common: Overrides = ()
    blocks: Annotated[
        tuple[Block, ...], Field(min_length=1, description="a list of blocks, with at least one"), DifferentLabels
    ]
    blocks_of: Text = ""

    def __post_init__(self) -> None:
        if self.blocks[0].beside:
            raise ValueError("the first block has no block before it to be beside")


@dataclass(frozen=True, kw_only=True)
class TableFile(FigureFile):
    """A file of conf/table."""

    columns: Columns

    def __post_init__(self) -> None:
        super().__post_init__()
        for block in self.blocks:
            if block.x:
                raise ValueError(f"block {block.label!r} has x, which is for figures: a table has one row per value")


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table, or a figure, which has no columns. seeds: of all blocks that have none of their own."""

    name: str
    title: str
    source: str
    columns: tuple[str, ...]
    seeds: tuple[int, ...]
    common: tuple[str, ...]
    blocks: tuple[Block, ...]

    @property
    def file(self) -> str:
        """The file that declares it."""
        return _file("table" if self.columns else "figure", self.name)


def names(*kinds: str) -> list[str]:
    """The names of all tables, then of all figures, or only those of some of KINDS."""
    return [name for name, (kind, _) in _paths().items() if kind in (kinds or KINDS)]


def load(name: str) -> TableSpec:
    """The table or figure of a name; raises ConfigError for what is wrong with its file."""
    kind, path = _find(name)
    file = _file(kind, name)
    given = _parsed(path, file)
    if "blocks_of" in given:
        given |= _blocks_of(file, given)
    keys = TableFile if kind == "table" else FigureFile
    try:
        top = TypeAdapter(keys).validate_python(given)
    except ValidationError as errors:
        raise ConfigError(sentence(errors, keys, given, file)) from None
    columns = top.columns if isinstance(top, TableFile) else ()
    return TableSpec(name, top.title, top.source, columns, top.seeds, top.common, top.blocks)


def _paths() -> dict[str, tuple[str, Path]]:
    found = [(kind, path) for kind in KINDS for path in (config_dir() / kind).glob("*.yaml")]
    found.sort(key=lambda each: (KINDS.index(each[0]), len(each[1].stem), each[1].stem))
    for _, path in found:
        if sum(other.stem == path.stem for _, other in found) > 1:
            raise ConfigError(f"{path.stem} is both a table and a figure: rename one of the two files.")
    return {path.stem: (kind, path) for kind, path in found}


def _find(name: str) -> tuple[str, Path]:
    known = _paths()
    if name not in known:
        raise ConfigError(f"{name} is not a table or figure{suggest(name, known)}.")
    return known[name]


def _file(kind: str, name: str) -> str:
    return f"conf/{kind}/{name}.yaml"


def _parsed(path: Path, file: str) -> dict[str, Any]:
    try:
        given: Any = OmegaConf.to_container(OmegaConf.load(path))
    except (yaml.YAMLError, OmegaConfBaseException, OSError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{file}{line} is not the YAML of a table ({what}).") from error
    if not isinstance(given, dict):
        raise ConfigError(f"{file} must be a mapping with title, source and blocks.")
    return given


def _blocks_of(file: str, given: dict[str, Any]) -> dict[str, Any]:
    """What a file with blocks_of takes from the file named there."""
    name, shared = str(given["blocks_of"]), ("seeds", "common", "blocks")
    for key in shared:
        if key in given:
            raise ConfigError(f"{file}: {key} is not a key here, because blocks_of takes it from {name}.")
    try:
        kind, path = _find(name)
    except ConfigError as error:
        raise ConfigError(f"{file}: blocks_of: {error}") from error
    other = _parsed(path, _file(kind, name))
    if "blocks_of" in other:
        raise ConfigError(f"{file}: blocks_of: {name} has no blocks of its own.")
    load(name)  # a mistake in the other file is reported as one of that file
    return {key: other[key] for key in shared if key in other}

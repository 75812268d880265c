"""A table, figure or finding as a file declares it.

Such a file lies in table/, figure/ or finding/ of a folder of the configuration; or, a table or a figure, anywhere.

The fields of the dataclasses are the keys of such a file: pydantic checks the file against them.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field, TypeAdapter, ValidationError, with_config

from sparse_rnn.core.conf import config_dir, options, unknown
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.tables.field_types import (
    Columns,
    DifferentLabels,
    Flag,
    GivenAxis,
    Key,
    Margin,
    Overrides,
    Seeds,
    Text,
    Values,
)
from sparse_rnn.tables.validation_messages import sentence

KINDS = ("table", "figure", "finding")
DECLARED_TABLES = ("table1", "table4", "table10", "st_table1")  # made from declarations, without a run or a file
DECLARED_FIGURES = ("figure1", "figure2")  # likewise
ENDINGS = (".yaml", ".yml")
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


@dataclass(frozen=True, kw_only=True)
class FindingFile(FigureFile):
    """A file of conf/finding: a claim, its `title`, that the first row of each block is better than the second.

    margin: how much worse the first row may be, for a claim that it is no worse than that, in perplexity or as a share.
    remark: what a reader should know about the runs.
    """

    margin: Margin = 0.0
    remark: Text = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for block in self.blocks:
            if len(block.rows) != 2 or block.x or any(row.reported for row in block.rows):
                raise ValueError(f"block {block.label!r} must have two rows with runs, and no x")


@dataclass(frozen=True, slots=True)
class TableSpec:
    """A table, or a figure or finding, which has no columns. seeds: of all blocks that have none of their own.

    path: of the file that declares it. margin, remark: of a finding.
    """

    name: str
    title: str
    source: str
    columns: tuple[str, ...]
    seeds: tuple[int, ...]
    common: tuple[str, ...]
    blocks: tuple[Block, ...]
    path: Path | None = None
    margin: float = 0.0
    remark: str = ""

    @property
    def file(self) -> str:
        """The file that declares it, for errors."""
        return _shown(self.path) if self.path else f"conf/{'table' if self.columns else 'figure'}/{self.name}.yaml"


FILES: dict[str, type[FigureFile]] = {"table": TableFile, "figure": FigureFile, "finding": FindingFile}


def names(*kinds: str) -> list[str]:
    """The names of all tables, then of all figures and findings, or only those of some of KINDS."""
    return [name for name, (kind, _) in _paths().items() if kind in (kinds or KINDS)]


def load(name: str) -> TableSpec:
    """What a name, or the path of a file, declares; raises ConfigError for what is wrong with it."""
    kind, path = _find(name)
    file = _shown(path)
    given = _parsed(path, file)
    if "blocks_of" in given:
        given |= _blocks_of(file, given)
    keys = FILES[kind]
    try:
        top = TypeAdapter(keys).validate_python(given)
    except ValidationError as errors:
        raise ConfigError(sentence(errors, keys, given, file)) from None
    columns = top.columns if isinstance(top, TableFile) else ()
    of_finding = (top.margin, top.remark) if isinstance(top, FindingFile) else ()
    return TableSpec(path.stem, top.title, top.source, columns, top.seeds, top.common, top.blocks, path, *of_finding)


def place(name: str) -> tuple[bool, int, str]:
    """What sorts names: first those of the papers, in their order."""
    return not re.fullmatch(r"(st_)?(table|figure)\d+", name), len(name), name


def is_path(name: str) -> bool:
    """Whether a word of a command line is the path of a file, and not the name of a table or figure."""
    return name.endswith(ENDINGS) or "/" in name


def kind_of(name: str) -> str:
    """One of KINDS, by name or by path; raises ConfigError."""
    return _find(name)[0]


def _paths() -> dict[str, tuple[str, Path]]:
    found = [(kind, path) for kind in KINDS for name, path in options(kind).items() if "/" not in name]
    found.sort(key=lambda each: (KINDS.index(each[0]), place(each[1].stem)))
    for _, path in found:
        if sum(other.stem == path.stem for _, other in found) > 1:
            raise ConfigError(f"{path.stem} is both a table and a figure: rename one of the two files.")
        _refuse_taken(path)
    return {path.stem: (kind, path) for kind, path in found}


def _refuse_taken(path: Path) -> None:
    """Raise ConfigError for a file named like what is made without one."""
    if path.stem in (*DECLARED_TABLES, *DECLARED_FIGURES):
        raise ConfigError(f"{path} has the name of {path.stem} of the papers, which needs no file: rename it.")


def _find(name: str) -> tuple[str, Path]:
    known = _paths()
    if is_path(name):
        return _of_path(Path(name), known)
    if name not in known:
        raise ConfigError(f"{name} is not a table or figure{unknown(name, known)}.")
    return known[name]


def _of_path(path: Path, known: dict[str, tuple[str, Path]]) -> tuple[str, Path]:
    """The kind of a file: that of its folder's name, or else a table if it has columns."""
    if not path.is_file():
        raise ConfigError(f"{path} is not a file: give the path of a table's YAML, or the name of a table.")
    if path.stem in known:
        kind, other = known[path.stem]
        if path.samefile(other):
            return kind, other
        raise ConfigError(f"{path} has the name of {other}: rename it.")
    _refuse_taken(path)
    if path.absolute().parent.name in KINDS:
        return path.absolute().parent.name, path
    return "table" if "columns" in _parsed(path, _shown(path)) else "figure", path


def _shown(path: Path) -> str:
    """A file as errors name it: from conf on if it is built in, from the current folder on if it lies there."""
    if path.is_relative_to(config_dir()):
        return f"conf/{path.relative_to(config_dir()).as_posix()}"
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)


def _parsed(path: Path, file: str) -> dict[str, Any]:
    try:
        given: Any = OmegaConf.to_container(OmegaConf.load(path))
    except (yaml.YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
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
        _, path = _find(name)
    except ConfigError as error:
        raise ConfigError(f"{file}: blocks_of: {error}") from error
    other = _parsed(path, _shown(path))
    if "blocks_of" in other:
        raise ConfigError(f"{file}: blocks_of: {name} has no blocks of its own.")
    load(name)  # a mistake in the other file is reported as one of that file
    return {key: other[key] for key in shared if key in other}

"""A table or figure as a file of conf/table or conf/figure declares it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from sparse_rnn.core.conf import config_dir
from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.tables.overrides import key_of, merged

COLUMNS = ("parameters", "valid", "test", "accuracy", "flops_train", "flops_test", "flops_train_integrated")
KINDS = ("table", "figure")
ALL = "all"  # on a command line: every table and figure
Value = str | int | float


@dataclass(frozen=True, slots=True)
class Axis:
    """What a panel varies: the override `key`, once per value."""

    key: str
    values: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table or a curve of a panel. reported: a number of the literature, without a run.

    line: run once and not per value of x, a line across the panel.
    """

    label: str
    overrides: tuple[str, ...] = ()
    reported: bool = False
    line: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """A rectangle of rows, or a panel of a figure. beside: right of the block before it, rows matched by label."""

    label: str
    rows: tuple[Row, ...]
    beside: bool = False
    seeds: tuple[int, ...] | None = None
    common: tuple[str, ...] = ()
    x: Axis | None = None


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
        return _file(KINDS[0] if self.columns else KINDS[1], self.name)


def names(*kinds: str) -> list[str]:
    """All tables, then all figures; or only those of some of KINDS."""
    return [name for name, (kind, _) in _paths().items() if kind in (kinds or KINDS)]


def load(name: str) -> TableSpec:
    """The table or figure of a name; raises ConfigError for what is wrong with its file."""
    kind, path = _find(name)
    file = _file(kind, name)
    top = _parsed(path, file)
    columns = ["columns"] if kind == "table" else []
    if isinstance(top, dict) and "blocks_of" in top:
        given = _read(file, top, ["title", "source", *columns, "blocks_of"])
        other = _blocks_of(file, given["blocks_of"])
        seeds, common, blocks = other.seeds, other.common, other.blocks
    else:
        given = _read(file, top, ["title", "source", *columns, "seeds", "blocks"], ["common"])
        seeds, common = tuple(given["seeds"]), tuple(given.get("common", ()))
        blocks = tuple(_block(_named(f"{file}, block", k, block), block) for k, block in enumerate(given["blocks"], 1))
        if kind == "table" and (varied := next((block for block in blocks if block.x), None)):
            raise ConfigError(f"{file}, block {varied.label!r}: x is of figures, a table has a row for every value.")
        _refuse_twice(file, "blocks", [block.label for block in blocks])
        if blocks[0].beside:
            raise ConfigError(f"{file}: the first block has none before it to be beside.")
    return TableSpec(name, given["title"], given["source"], tuple(given.get("columns", ())), seeds, common, blocks)


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
        raise ConfigError(f"{name} is no table or figure{suggest(name, known)}.")
    return known[name]


def _file(kind: str, name: str) -> str:
    return f"conf/{kind}/{name}.yaml"


def _parsed(path: Path, file: str) -> Any:
    try:
        return OmegaConf.to_container(OmegaConf.load(path))
    except (yaml.YAMLError, OmegaConfBaseException, OSError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        what = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{file}{line} is not YAML of a table ({what}).") from error


def _blocks_of(file: str, name: str) -> TableSpec:
    try:
        kind, path = _find(name)
    except ConfigError as error:
        raise ConfigError(f"{file}: blocks_of: {error}") from error
    other = _parsed(path, _file(kind, name))
    if isinstance(other, dict) and "blocks_of" in other:
        raise ConfigError(f"{file}: blocks_of: {name} has no blocks of its own.")
    return load(name)


def _block(where: str, given: Any) -> Block:
    _read(where, given, ["label", "rows"], ["beside", "seeds", "common", "x"])
    rows = tuple(_row(_named(f"{where}, row", k, row), row) for k, row in enumerate(given["rows"], 1))
    _refuse_twice(where, "rows", [row.label for row in rows])
    x = _axis(f"{where}, x", given["x"]) if "x" in given else None
    for row in rows:
        if row.line and not x:
            raise ConfigError(f"{where}, row {row.label!r}: line means nothing in a block without x.")
    seeds = tuple(given["seeds"]) if "seeds" in given else None
    return Block(given["label"], rows, given.get("beside", False), seeds, tuple(given.get("common", ())), x)


def _axis(where: str, given: Any) -> Axis:
    _read(where, given, ["key", "values"])
    if key_of(given["key"]) == "seed":
        raise ConfigError(f"{where}: leave seed to seeds.")
    return Axis(key_of(given["key"]), tuple(given["values"]))


def _row(where: str, given: Any) -> Row:
    _read(where, given, ["label"], ["with", "reported", "line"])
    row = Row(given["label"], tuple(given.get("with", ())), given.get("reported", False), given.get("line", False))
    if row.reported and row.overrides:
        raise ConfigError(f"{where}: a reported number has no run: leave with or reported out.")
    return row


def _named(where: str, number: int, given: Mapping[str, Any]) -> str:
    return f"{where} {given['label']!r}" if "label" in given else f"{where} {number}"


def _refuse_twice(where: str, what: str, labels: Sequence[str]) -> None:
    for label in labels:
        if labels.count(label) > 1:
            raise ConfigError(f"{where}: two {what} have the label {label!r}.")


def _read(where: str, given: Any, required: Sequence[str], optional: Sequence[str] = ()) -> Mapping[str, Any]:
    """What a mapping of the file holds, all of it known, complete and of the right form."""
    known = [*required, *optional]
    if not isinstance(given, dict):
        raise ConfigError(f"{where} must be a mapping with {', '.join(required)}.")
    for key, value in given.items():
        if key not in known:
            raise ConfigError(f"{where}: {key} is not a key here{suggest(str(key), known)}.")
        fits, words = _FORMS[key]
        if not fits(value):
            raise ConfigError(f"{where}: {key} must be {words}.")
        if key in ("common", "with") and "seed" in merged(value):
            raise ConfigError(f"{where}: leave seed out of {key}, and list it under seeds.")
        if key == "columns" and (unknown := [name for name in value if name not in COLUMNS]):
            raise ConfigError(f"{where}: {unknown[0]} is not a column{suggest(unknown[0], COLUMNS)}.")
    for key in required:
        if key not in given:
            raise ConfigError(f"{where}: {key} is missing.")
    return given


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_override(value: Any) -> bool:
    return _is_text(value) and ("=" in value or value.startswith("~"))


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_seed(value: Any) -> bool:
    return isinstance(value, int) and not _is_flag(value) and value >= 0


def _is_value(value: Any) -> bool:
    return isinstance(value, str | int | float) and not _is_flag(value)


def _is_block(value: Any) -> bool:
    return isinstance(value, dict)


def _list_of(fits: Callable[[Any], bool], *, different: bool = False) -> Callable[[Any], bool]:
    def is_list(value: Any) -> bool:
        if not isinstance(value, list) or not value or not all(map(fits, value)):
            return False
        return not different or len(set(value)) == len(value)

    return is_list


_TEXT = (_is_text, "a text")
_FLAG = (_is_flag, "true or false")
_OVERRIDES = (_list_of(_is_override), "a list of overrides like sparsifier.sparsity=0.8, at least one")

_FORMS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(("title", "source", "blocks_of", "label", "key"), _TEXT),
    **dict.fromkeys(("beside", "reported", "line"), _FLAG),
    **dict.fromkeys(("common", "with"), _OVERRIDES),
    "columns": (_list_of(_is_text, different=True), f"a list of different names among {', '.join(COLUMNS)}"),
    "seeds": (_list_of(_is_seed, different=True), "a list of different whole numbers from 0 on, at least one"),
    "values": (_list_of(_is_value, different=True), "a list of different values, at least one"),
    "blocks": (_list_of(_is_block), "a list of blocks, at least one"),
    "rows": (_list_of(_is_block), "a list of rows, at least one"),
    "x": (_is_block, "a key and its values"),
}

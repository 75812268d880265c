"""Labelled texts from the lines of files, as streams of examples; an error names the file and the malformed line."""

import csv
import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

from sparse_rnn.core.errors import MANY, ConfigError
from sparse_rnn.core.wording import counted
from sparse_rnn.data.text_files import lines

AGAIN = "correct the file, or get it again"
LARGEST_FIELD = 2**31 - 1  # characters; a class of csv's own allows 131,072
SUFFIXES = {".tsv": "tsv", ".tab": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl"}
FORMATS = ("auto", "csv", "tsv", "jsonl")


class Example(NamedTuple):
    """A text and its label as they are in the file. line: where the example starts, from 1."""

    line: int
    label: str
    text: str


def format_of(name: str, chosen: str) -> str:
    """The format of a file, one of FORMATS[1:]: the one chosen, or with `auto` the one that its suffix stands for."""
    return SUFFIXES.get(Path(name.removesuffix(".gz")).suffix.lower(), "csv") if chosen == "auto" else chosen


def examples_in(path: Path, chosen: str, label: str, content: str) -> Iterator[Example]:
    """The examples of a user's file. chosen: its format. label, content: the keys of JSON lines."""
    kind, text = format_of(path.name, chosen), lines(path)
    if kind == "jsonl":
        return json_examples(text, path, label, content, words=True)
    return csv_examples(text, path, 2, "label", tabs=kind == "tsv")


def csv_rows(text: Iterable[str], source: object, *, tabs: bool = False) -> Iterator[tuple[int, list[str]]]:
    """The rows of comma-separated values, each with the number of its first line; blank lines are skipped.

    tabs: whether tabs separate the values, which then have no quotes around them.
    """
    # Where tabs separate, a text may begin with a quote that nothing closes, which must not swallow the rows below.
    separated_by_tabs = partial(csv.reader, delimiter="\t", quoting=csv.QUOTE_NONE)
    reader = (separated_by_tabs if tabs else csv.reader)(text, strict=True)
    while True:
        line, before = reader.line_num + 1, csv.field_size_limit(LARGEST_FIELD)
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            kind = "tab" if tabs else "comma"
            raise ConfigError(f"{source}, line {line}, is not {kind}-separated text ({error}): {AGAIN}.") from None
        finally:
            csv.field_size_limit(before)  # of the whole process, which may not be ours
        if row:
            yield line, row


def csv_examples(
    text: Iterable[str], source: object, columns: int, header: str = "", *, tabs: bool = False
) -> Iterator[Example]:
    """Rows of a label and one or more texts, which are joined; a first row whose label is `header` is skipped."""
    for number, (line, row) in enumerate(csv_rows(text, source, tabs=tabs)):
        _require_columns(source, line, row, columns)
        if number == 0 and header and row[0].strip().lower() == header:
            continue
        if not row[0].strip():
            raise ConfigError(f"{source}, line {line}, has no label: {AGAIN}.")
        yield Example(line, row[0].strip(), " ".join(row[1:]))


def named_csv_examples(text: Iterable[str], source: object, label: str, content: str) -> Iterator[Example]:
    """Rows below a header with the names of the columns, of which `label` and `content` are used."""
    rows = csv_rows(text, source)
    _, names = next(rows, (1, []))
    for name in (label, content):
        if name not in names:
            raise ConfigError(f"{source} has no column {name} in its first line: {AGAIN}.")
    at, of = names.index(label), names.index(content)
    for line, row in rows:
        _require_columns(source, line, row, len(names))
        yield Example(line, row[at].strip(), row[of])


def _require_columns(source: object, line: int, row: Sequence[str], columns: int) -> None:
    if len(row) != columns:
        raise ConfigError(f"{source}, line {line}, has {counted(len(row), 'column')} instead of {columns}: {AGAIN}.")


def json_examples(
    text: Iterable[str], source: object, label: str, content: str, *, words: bool = False
) -> Iterator[Example]:
    """One JSON object per line, with a number under the key `label` and a text under `content`.

    words: whether the label may be a text, true or false as well.
    """
    for line, written in enumerate(text, 1):
        if not written.strip():
            continue
        try:
            found = json.loads(written.strip())
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", error)
            raise ConfigError(f"{source}, line {line}, is not JSON ({reason}): {AGAIN}.") from None
        values = (found.get(label), found.get(content)) if isinstance(found, dict) else (None, None)
        if not isinstance(values[0], str | int | float if words else int | float) or not isinstance(values[1], str):
            what = "label" if words else "number"
            raise ConfigError(f"{source}, line {line}, has no {what} {label} or no text {content}: {AGAIN}.")
        name = _label(values[0])
        if not name:
            raise ConfigError(f"{source}, line {line}, has no label: {AGAIN}.")
        yield Example(line, name, values[1])


def _label(value: str | float | bool) -> str:
    """A label of JSON as a text: 5 for 5.0, true for true."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def snap_examples(text: Iterable[str], source: object) -> Iterator[Example]:
    """SNAP's reviews: lines `key: value`, where `product/productId` starts a record and a value may span lines."""
    record: dict[str, str] = {}
    key, start = "", 1
    for line, written in enumerate(text, 1):
        name, colon, value = written.partition(": ")
        if name == "product/productId":
            if record:
                yield _snap_example(record, source, start)
            record, start = {}, line
        if colon and name.startswith(("product/", "review/")):
            key, record[name] = name, value
        elif key:
            record[key] = record.get(key, "") + written
    if record:
        yield _snap_example(record, source, start)


def _snap_example(record: Mapping[str, str], source: object, line: int) -> Example:
    for key in ("review/score", "review/text"):
        if key not in record:
            raise ConfigError(f"{source}, line {line}, starts a record without {key}: {AGAIN}.")
    return Example(line, record["review/score"].strip().removesuffix(".0"), record["review/text"].rstrip("\n"))


def labelled(examples: Iterable[Example], source: object, labels: Collection[str]) -> Iterator[Example]:
    """The same examples; raises ConfigError at the first whose label is not among `labels`."""
    for example in examples:
        if example.label not in labels:
            known = sorted(map(_short, labels))
            shown = ", ".join(known if len(known) <= MANY else [*known[:MANY], "..."])
            raise ConfigError(
                f"{source}, line {example.line}, has the label {_short(example.label)!r} instead of one of {shown}: "
                f"{AGAIN}."
            )
        yield example


def _short(label: str) -> str:
    """A label on one line of at most 40 characters: in a malformed file a whole text may be taken for a label."""
    return shorten(label, 40, placeholder="...")

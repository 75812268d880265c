"""Files of labelled texts as streams of examples; an error names the file and the line that is malformed."""

import csv
import gzip
import json
import tarfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import NamedTuple

from sparse_rnn.core.errors import MANY, ConfigError
from sparse_rnn.core.wording import counted

AGAIN = "correct the file, or get it again"


class Example(NamedTuple):
    """A text and its label as they are in the file. line: where the example starts, from 1."""

    line: int
    label: str
    text: str


def find_file(path: Path) -> Path | None:
    """The path if there is such a file, or else the same with `.gz` appended if that exists, or else None."""
    compressed = path.with_name(f"{path.name}.gz")
    return next((found for found in (path, compressed) if found.exists()), None)


@contextmanager
def reading(source: object) -> Iterator[None]:
    """Turn what goes wrong while `source` is read into a ConfigError that names it."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise ConfigError(f"{source} is damaged or cut off ({error}): remove it and get it again.") from None
    except OSError as error:
        raise ConfigError(f"{source} cannot be read: {error.strerror or error}.") from None


def lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """The lines of a text file, decompressed if its name ends in `.gz`."""
    with reading(path), gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        yield from decoded(stream, path, encoding)


def archive_lines(path: Path, member: str) -> Iterator[str]:
    """The lines of the text file `member` of a compressed archive, read without unpacking the archive."""
    with reading(path), tarfile.open(path, "r|gz") as archive:
        for entry in archive:
            if entry.name == member and (stream := archive.extractfile(entry)):
                yield from decoded(stream, f"{path}:{member}")
                return
    raise ConfigError(f"{path} has no {member}: get it again.")


def decoded(stream: Iterable[bytes], source: object, encoding: str = "utf-8") -> Iterator[str]:
    """Lines as text, without a byte order mark; raises ConfigError for another encoding and for NUL bytes."""
    for number, line in enumerate(stream, 1):
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError:
            raise ConfigError(f"{source}, line {number}, is not {encoding.upper()} text: convert it first.") from None
        if "\0" in text:
            raise ConfigError(f"{source}, line {number}, has a NUL byte: {AGAIN}.")
        yield text.removeprefix("\ufeff") if number == 1 else text


def csv_rows(text: Iterable[str], source: object) -> Iterator[tuple[int, list[str]]]:
    """The rows of comma-separated values, each with the number of its first line; blank lines are skipped."""
    reader = csv.reader(text, strict=True)
    while True:
        line = reader.line_num + 1
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ConfigError(f"{source}, line {line}, is not comma-separated text ({error}): {AGAIN}.") from None
        if row:
            yield line, row


def csv_examples(text: Iterable[str], source: object, columns: int, header: str = "") -> Iterator[Example]:
    """Rows of a label and one or more texts, which are joined; a first row whose label is `header` is skipped."""
    for number, (line, row) in enumerate(csv_rows(text, source)):
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


def json_examples(text: Iterable[str], source: object, label: str, content: str) -> Iterator[Example]:
    """One JSON object per line, with a number under the key `label` and a text under `content`."""
    for line, written in enumerate(text, 1):
        if not written.strip():
            continue
        try:
            found = json.loads(written.strip())
        except ValueError as error:
            reason = getattr(error, "msg", error)
            raise ConfigError(f"{source}, line {line}, is not JSON ({reason}): {AGAIN}.") from None
        values = (found.get(label), found.get(content)) if isinstance(found, dict) else (None, None)
        if not isinstance(values[0], int | float) or not isinstance(values[1], str):
            raise ConfigError(f"{source}, line {line}, has no number {label} or no text {content}: {AGAIN}.")
        yield Example(line, f"{values[0]:g}", values[1])


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

"""The papers' numbers, copied into the files of results/paper. None of them is the result of a run.

selfish_rnn.csv and st_rnn.csv have one line for every row of the papers' tables, under the labels of conf/table.
Numbers keep their printed digits and unit: 21.8M parameters, an accuracy of 77.8%, FLOPs of 0.33x those of the dense
network, whose own number is in the note of its line. A line without numbers says why in its note. A note is a footnote:
it says where a number is from, if not from the paper's own runs, and what is doubtful about it.
"""

import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path

from sparse_rnn.core.errors import ConfigError

FOLDER = Path(__file__).with_name("paper")
FILES = ("selfish_rnn.csv", "st_rnn.csv", "related_work.csv")
PRINTED = ("parameters", "valid", "test", "accuracy", "flops_train", "flops_test")
WITH_STD = ("valid", "test", "accuracy")
KEYS = ("table", "block", "row", *PRINTED, *(f"{column}_std" for column in WITH_STD), "runs", "source", "note")
CLAIM_KEYS = ("figure", "block", "row", "quantity", "value", "source")
NUMBER = re.compile(r"(\d+(?:\.\d+)?)([M%x]?)")
EXPONENTS = {"M": 6, "%": -2, "x": 0, "": 0}
Line = Mapping[str, str]
Rows = Mapping[tuple[str, str], "ReportedRow"]


@dataclass(frozen=True)
class ReportedValue:
    """A number. text: as printed, with its deviation. value, std: as shares in [0, 1] for an accuracy."""

    text: str
    value: float
    std: float | None = None


@dataclass(frozen=True)
class ReportedRow:
    """A row of a table. values: by column. runs: how many were averaged, None if the paper does not say."""

    values: Mapping[str, ReportedValue]
    runs: int | None
    note: str
    source: str


@dataclass(frozen=True)
class Claim:
    """A number that the text of a paper gives for a row of a figure."""

    block: str
    row: str
    quantity: str
    value: float
    source: str


def reported(table: str) -> Rows:
    """The rows of a table by the labels of block and row; none if no paper has the table. Raises ConfigError."""
    return _all_rows().get(table, {})


@cache
def _all_rows() -> Mapping[str, Rows]:
    return {table: rows for file in FILES for table, rows in read_rows(FOLDER / file).items()}


def claims(figure: str) -> tuple[Claim, ...]:
    """The numbers that the papers' texts give for a figure; raises ConfigError."""
    return tuple(
        Claim(line["block"], line["row"], line["quantity"], _number(where, "value", line["value"]), line["source"])
        for where, line in read_lines(FOLDER / "claims.csv", CLAIM_KEYS)
        if line["figure"] == figure
    )


def read_rows(path: Path) -> dict[str, Rows]:
    """The rows of a file, by table; raises ConfigError if the file is not valid."""
    found: dict[str, dict[tuple[str, str], ReportedRow]] = {}
    for where, line in read_lines(path, KEYS):
        for key in ("table", "block", "row", "source"):
            if not line[key]:
                raise ConfigError(f"{where}: {key} is empty.")
        rows = found.setdefault(line["table"], {})
        if (line["block"], line["row"]) in rows:
            raise ConfigError(f"{where}: {line['table']} has this row of this block already.")
        rows[line["block"], line["row"]] = _row(where, line)
    return dict(found)


def read_lines(path: Path, keys: Sequence[str]) -> list[tuple[str, Line]]:
    """The lines of a CSV file, each with its place for error messages; raises ConfigError for other columns."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file, strict=True)
            numbered = [(reader.line_num, fields) for fields in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read as CSV ({error}).") from error
    if not numbered or numbered[0][1] != list(keys):
        raise ConfigError(f"{path}: the columns must be {','.join(keys)}.")
    for number, fields in numbered:
        if len(fields) != len(keys):
            raise ConfigError(f"{path}, line {number} has {len(fields)} fields instead of {len(keys)}.")
    return [(f"{path}, line {number}", dict(zip(keys, fields, strict=True))) for number, fields in numbered[1:]]


def _row(where: str, line: Line) -> ReportedRow:
    values = {column: _value(where, line, column) for column in PRINTED if line[column]}
    for column in WITH_STD:
        if line[f"{column}_std"] and column not in values:
            raise ConfigError(f"{where}: {column}_std needs {column}.")
    if not values and not line["note"]:
        raise ConfigError(f"{where} has no number: say why in its note.")
    runs = line["runs"]
    if runs and not (runs.isdecimal() and int(runs)):
        raise ConfigError(f"{where}: runs={runs} must be a whole number of at least 1.")
    return ReportedRow(values, int(runs) if runs else None, line["note"], line["source"])


def _value(where: str, line: Line, column: str) -> ReportedValue:
    text, std = line[column], line.get(f"{column}_std", "")
    if column == "accuracy" and not text.endswith("%"):
        raise ConfigError(f"{where}: accuracy={text} must be in per cent, like 77.8%.")
    if not std:
        return ReportedValue(text, _number(where, column, text))
    return ReportedValue(f"{text} ± {std}", _number(where, column, text), _number(where, f"{column}_std", std))


def _number(where: str, key: str, text: str) -> float:
    """The value of a printed number: M stands for million, % for hundredths, x for the dense network's FLOPs."""
    read = NUMBER.fullmatch(text)
    if not read:
        raise ConfigError(f"{where}: {key}={text} must be a number like 72.40, 21.8M, 77.8% or 0.33x.")
    return float(Decimal(read[1]).scaleb(EXPONENTS[read[2]]))

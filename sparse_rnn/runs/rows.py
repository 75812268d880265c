"""The rows of a run's log, metrics.jsonl, read back. Imports nothing heavy."""

from pathlib import Path
from types import NoneType
from typing import Any

from sparse_rnn.core.errors import DamagedFile
from sparse_rnn.core.reading import parse_json, read_bytes
from sparse_rnn.core.shapes import misfit

Row = dict[str, Any]


def parse_row(line: bytes) -> Row:
    """A row from its line; raises ValueError if it is none."""
    row = parse_json(line)
    wrong = misfit(row, dict) or misfit(row.get("step"), int, "step") or misfit(row.get("epoch"), int, "epoch")
    if not wrong and not all(isinstance(value, (int, float, str, NoneType)) for value in row.values()):
        wrong = "one of its values is an object or a list"
    if wrong:
        raise ValueError(wrong)
    return dict(row)


def is_begun(rest: bytes) -> bool:
    """Whether what follows the end of the last line is the beginning of a row, or nothing."""
    return not rest or rest.startswith(b"{")


def read_rows(metrics: Path) -> list[Row]:
    """The rows of a file in the order in which they were logged; none if there is no file.

    A last line that a killed process left incomplete is not read. Raises DamagedFile for any other that is no row.
    """
    rows: list[Row] = []
    try:
        *lines, rest = read_bytes(metrics).split(b"\n")
        for line in lines:
            rows.append(parse_row(line))
        if not is_begun(rest):
            raise ValueError("it is no JSON")
    except FileNotFoundError:
        return []
    except OSError as error:
        raise DamagedFile(f"{metrics} cannot be read ({error.strerror or error}).") from None
    except ValueError as error:
        raise DamagedFile(f"{metrics} is damaged in line {len(rows) + 1} ({error}).") from None
    return rows

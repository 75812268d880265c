"""The rows of a run's log, metrics.jsonl, read back. Imports nothing heavy."""

from collections.abc import Mapping
from pathlib import Path
from types import NoneType
from typing import Any

from sparse_rnn.core.errors import DamagedFile
from sparse_rnn.core.reading import parse_json, read_bytes
from sparse_rnn.core.shapes import misfit

Row = dict[str, Any]
SPARSITY = "sparsity/"


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


def gates_of(row: Mapping[str, Any], prefix: str = SPARSITY) -> dict[str, dict[str, float]]:
    """The sparsity of each gate by weight: the values of the keys `<prefix><weight>/<gate>` of a row, in its order."""
    found: dict[str, dict[str, float]] = {}
    for key, value in row.items():
        weight, _, gate = key.removeprefix(prefix).rpartition("/")
        if key.startswith(prefix) and weight:
            found.setdefault(weight, {})[gate] = float(value)
    return found


def gate_densities(row: Mapping[str, Any]) -> dict[str, list[float]]:
    """The densities of each gate in a row, one for every weight that has it."""
    found: dict[str, list[float]] = {}
    for gates in gates_of(row).values():
        for gate, sparsity in gates.items():
            found.setdefault(gate, []).append(1 - sparsity)
    return found

"""What pydantic finds wrong in a table's file, as one sentence with the block, the row and the key."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from sparse_rnn.core.errors import suggest

UNKNOWN_KEY = ("unexpected_keyword_argument", "invalid_key")  # pydantic's names; the second: a key that is not text
PARTS = {"blocks": "Block", "rows": "Row", "x": "Axis"}  # the keys that hold mappings, and their classes


def sentence(errors: ValidationError, declared: type, given: dict[str, Any], file: str) -> str:
    """The first mistake in `given`, the mapping of `file`, which the dataclass `declared` should describe."""
    # A misspelled key is a missing one as well, but only its own error has the near matches.
    error = min(errors.errors(), key=lambda each: each["type"] not in UNKNOWN_KEY)
    where, part, loc = _innermost_part(given, error["loc"], file)
    schema = TypeAdapter(declared).json_schema()
    keys = (schema["$defs"][part] if part else schema)["properties"]
    key = loc[0] if loc else None
    subject = f"{where}:" if key is None else f"{where}: {key}"
    match error["type"]:
        case "missing":
            return f"{subject} is missing."
        case "value_error":  # from a check of our own
            return f"{subject} {error['ctx']['error']}."
        case kind if kind in UNKNOWN_KEY:
            return f"{subject} is not a key here{suggest(str(key), keys)}."
        case _:
            return f"{subject} must be {keys[key]['description']}."


def _innermost_part(
    given: dict[str, Any], loc: tuple[int | str, ...], where: str
) -> tuple[str, str | None, tuple[int | str, ...]]:
    """The mapping to which a `loc` such as (blocks, 0, rows, 2, with, 0) leads: its place, its class, what is left."""
    part = None
    while True:
        match loc:
            case ("blocks" | "rows" as key, int(k), *left) if isinstance(inner := given[key][k], dict):
                label = inner.get("label")
                where += f", {key[:-1]} {repr(label) if isinstance(label, str) else k + 1}"
            case ("x" as key, *left) if isinstance(inner := given[key], dict):
                where += f", {key}"
            case _:
                return where, part, loc
        given, part, loc = inner, PARTS[key], tuple(left)

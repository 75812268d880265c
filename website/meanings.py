"""What the keys of a configuration mean, out of the docstrings of its dataclass: `key, other: what both are.`"""

import inspect
import re
from dataclasses import fields
from typing import Any


def meanings(schema: type[Any]) -> dict[tuple[str, ...], str]:
    """What the docstrings of a dataclass and of its bases say of its fields, by the fields that it is said of.

    What a class says of a field goes before what its bases say. A field of which nothing is said is left out.
    """
    said: dict[str, str] = {}
    for part in schema.__mro__:
        said = _said(part, schema) | said
    found: dict[str, list[str]] = {}
    for name in (field.name for field in fields(schema) if field.name in said):
        found.setdefault(said[name], []).append(name)
    return {tuple(names): meaning for meaning, names in found.items()}


def summary(component: type[Any]) -> str:
    """What the docstring of a class says apart from its keys, on one line."""
    text = _unwrapped(inspect.getdoc(component) or "")
    paragraphs = (_beginnings(component).split(paragraph)[0].strip() for paragraph in text.splitlines())
    return " ".join(filter(None, paragraphs))


def _said(part: type[Any], schema: type[Any]) -> dict[str, str]:
    """The meanings in the docstring of one class, by field."""
    text = _unwrapped(inspect.cleandoc(vars(part).get("__doc__") or ""))
    starts = list(_beginnings(schema).finditer(text))
    ends = [*(start.start() for start in starts), len(text)][1:]
    found = {}
    for start, end in zip(starts, ends, strict=False):
        meaning = text[start.end() : end].partition("\n")[0].strip()
        found |= dict.fromkeys(re.findall(r"\w+", start[0]), meaning)
    return found


def _unwrapped(text: str) -> str:
    """The text with each paragraph on one line."""
    return "\n".join(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))


def _beginnings(schema: type[Any]) -> re.Pattern[str]:
    """Where the meaning of keys, or of what belongs to the class, begins: with a sentence."""
    names = {name for part in schema.__mro__ for name in vars(part).get("__annotations__", {})}
    key = "|".join(map(re.escape, names)) or "$."
    return re.compile(rf"(?:^|(?<=[.)] ))(?:{key})(?:, (?:{key}))*: ", re.MULTILINE)

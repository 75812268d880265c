"""What the keys of a configuration mean, out of the docstrings of its dataclass: `key, other: what both are.`"""

import inspect
import re
from collections.abc import Iterable, Iterator
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
    parts = (
        said for paragraph in paragraphs(inspect.getdoc(component) or "", names_of(component)) for said in paragraph
    )
    return " ".join(meaning for names, meaning in parts if not names and meaning)


def _said(part: type[Any], schema: type[Any]) -> dict[str, str]:
    """The meanings in the docstring of one class, by field."""
    text = inspect.cleandoc(vars(part).get("__doc__") or "")
    said = [each for paragraph in paragraphs(text, names_of(schema)) for each in paragraph]
    return {name: meaning for names, meaning in said for name in names}


def names_of(schema: type[Any]) -> set[str]:
    """Its fields, and what else belongs to the class."""
    return {name for part in schema.__mro__ for name in vars(part).get("__annotations__", {})}


def paragraphs(text: str, names: Iterable[str]) -> Iterator[list[tuple[list[str], str]]]:
    """Each paragraph of a docstring in parts: the names that a part begins with, none in the first, and the rest."""
    name = "|".join(map(re.escape, names)) or "$."
    beginning = re.compile(rf"(?:^|(?<=[.)] ))((?:{name})(?:, (?:{name}))*): ")
    for paragraph in text.split("\n\n"):
        first, *others = beginning.split(" ".join(paragraph.split()))
        parts = zip(others[::2], others[1::2], strict=True)
        yield [([], first.strip()), *((keys.split(", "), meaning.strip()) for keys, meaning in parts)]

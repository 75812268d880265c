"""Whether a value that was read as JSON has the shape that a type describes. Imports nothing heavy."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

WORDS: Mapping[Any, str] = {
    dict: "an object",
    list: "a list",
    str: "a text",
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    NoneType: "null",
}
LISTS = (list, tuple, Sequence)
LARGEST = 2**63  # of whole numbers: beyond it they fit no tensor, and soon no float
TO_BE_SET = "???"  # OmegaConf's word for a value without a default


def misfit(value: Any, shape: Any, name: str = "it") -> str:
    """What is wrong with a value, in words that begin with its `name`; empty if it has the shape.

    shape: a plain type, a union or Literal of them, list[...], dict[str, ...], a TypedDict, which may have more keys,
    or a dataclass, which may not. A whole number is a number as well; true and false are neither.
    """
    kind, inside = get_origin(shape) or shape, get_args(shape)
    if kind is Literal:
        return "" if value in inside else f"{name} is none of {', '.join(map(str, inside))}"
    if kind in (Union, UnionType):
        return "" if any(not misfit(value, each) for each in inside) else _wrong(value, shape, name)
    if is_typeddict(kind) or is_dataclass(kind):
        return _wrong(value, dict, name) or next(_wrong_keys(value, kind, name), "")
    kind = list if kind in LISTS else dict if kind is Mapping else kind
    if kind not in WORDS:  # Any, and what JSON does not have
        return ""
    parts: Iterator[str] = iter(())
    if kind is list and inside and isinstance(value, list):
        parts = (misfit(each, inside[0], f"{name}[{place}]") for place, each in enumerate(value))
    if kind is dict and inside and isinstance(value, dict):
        parts = (misfit(each, inside[1], _inside(name, key)) for key, each in value.items())
    return _wrong(value, kind, name) or next(filter(None, parts), "")


def misfits(value: Mapping[str, Any], shape: Any) -> dict[str, str]:
    """What is wrong with each of an object's own keys, by key; empty if it has the shape of a TypedDict."""
    hints = _hints(shape)
    found = {key: misfit(each, hints[key], key) for key, each in value.items() if key in hints}
    return {key: wrong for key, wrong in found.items() if wrong}


def _wrong(value: Any, shape: Any, name: str) -> str:
    """The sentence for a value of another type; empty if the type is right."""
    kinds = [get_origin(each) or each for each in get_args(shape) or (shape,)]
    if get_origin(shape) not in (Union, UnionType) and _is(value, shape):
        return ""
    said = WORDS[_kind(value)] if not isinstance(value, int) or abs(value) < LARGEST else "a number far too large"
    wanted = [WORDS[list if kind in LISTS else kind] if kind in (*WORDS, *LISTS) else "an object" for kind in kinds]
    return f"{name} is {said}, not {' or '.join(wanted)}"


def _is(value: Any, kind: Any) -> bool:
    if isinstance(value, bool) or kind is bool:
        return kind is bool and isinstance(value, bool)
    if kind is float:
        return isinstance(value, float) or (isinstance(value, int) and abs(value) < LARGEST)
    return isinstance(value, kind) and not (kind is int and abs(value) >= LARGEST)


def _kind(value: Any) -> Any:
    return next(kind for kind in WORDS if isinstance(value, kind))


def _wrong_keys(value: Mapping[str, Any], shape: Any, name: str) -> Iterator[str]:
    hints, required = _hints(shape), _required(shape)
    yield from (f"{_inside(name, key)} is missing" for key in sorted(required - value.keys()))
    if is_dataclass(shape):
        yield from (f"{_inside(name, key)} is not known" for key in value if key not in hints)
    found = (misfit(each, hints[key], _inside(name, key)) for key, each in value.items() if key in hints)
    yield from filter(None, found)


def _inside(name: str, key: object) -> str:
    return str(key) if name == "it" else f"{name}.{key}"


@cache
def _hints(shape: Any) -> dict[str, Any]:
    hints = get_type_hints(shape)
    return {f.name: hints[f.name] for f in fields(shape) if f.init} if is_dataclass(shape) else hints


@cache
def _required(shape: Any) -> frozenset[str]:
    if is_typeddict(shape):
        return frozenset(shape.__required_keys__)
    without = (f.name for f in fields(shape) if f.init and f.default in (MISSING, TO_BE_SET))
    return frozenset(without) - {f.name for f in fields(shape) if f.default_factory is not MISSING}


def deeper_than(value: Any, levels: int) -> bool:
    """Whether lists and objects are nested more deeply than that."""
    level = [value]
    for _ in range(levels):
        level = [each for node in level for each in _children(node)]
    return bool(level)


def _children(node: Any) -> Sequence[Any]:
    if isinstance(node, dict):
        return list(node.values())
    return node if isinstance(node, list) else ()


def is_number(value: Any) -> bool:
    """Whether a value is a number, which may be infinite or NaN."""
    return not misfit(value, float)


def is_finite(value: Any) -> bool:
    """Whether a value is a finite number."""
    return is_number(value) and math.isfinite(value)

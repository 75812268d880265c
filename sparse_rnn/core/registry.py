"""Components by name: what YAML calls `group/name` is registered in Python by `@register(group, name)`."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.core.plugins import load_plugins
from sparse_rnn.core.wording import plural

T = TypeVar("T", bound=type)

_REGISTRY: dict[str, dict[str, Any]] = {}

# What a class of each group must have, besides what is called; the first are configured by YAML, of which they are the
# schema, and are known by a field `name`.
CONFIGURED: dict[str, tuple[str, ...]] = {
    "model": ("task", "build"),
    "dataset": ("task", "load", "sizes", "train_tokens"),
    "optimizer": (),
    "growth": ("needs",),
}
OTHERS = ("initial", "redistribution", "removal", "schedule", "sparsifier", "structure", "task")


def register(group: str, name: str) -> Callable[[T], T]:
    """Make a class known as `name` in `group`.

    Raises ConfigError if there is no such group, if the class lacks what those of the group need, or if another has
    the name.

    A class that is defined again, as by a cell of a notebook, replaces itself.
    """

    def add(component: T) -> T:
        _refuse_incomplete(group, name, component)
        known = _REGISTRY.setdefault(group, {})
        other = known.get(name, component)
        if (source_file(other), other.__qualname__) != (source_file(component), component.__qualname__):
            raise ConfigError(
                f"{group}={name} is registered twice, in {source_file(other)} and in {source_file(component)}: "
                "choose another name."
            )
        known[name] = component
        return component

    return add


def _refuse_incomplete(group: str, name: str, component: type) -> None:
    groups = [*CONFIGURED, *OTHERS]
    if group not in groups:
        hint = suggest(group, groups)
        raise ConfigError(f"{component.__name__} cannot be {group}={name}: {group} is no group{hint}.")
    if lacking := list(_lacking(group, name, component)):
        raise ConfigError(f"{component.__name__} cannot be {group}={name}: it needs {' and '.join(lacking)}.")


def _lacking(group: str, name: str, component: type) -> Iterator[str]:
    if group not in CONFIGURED:
        return
    own = is_dataclass(component) and "__dataclass_fields__" in vars(component)
    if not own:
        yield "@dataclass below @register"
    if not own or {f.name: f.default for f in fields(component)}.get("name") != name:
        yield f'the field `name: str = "{name}"`'
    if absent := [f"`{each}`" for each in CONFIGURED[group] if not hasattr(component, each)]:
        yield f"the {plural('attribute', len(absent))} {' and '.join(absent)}"


def source_file(component: type) -> str:
    """The file that a class is written in; where there is none, as in a notebook, the name of its module."""
    return getattr(sys.modules.get(component.__module__), "__file__", None) or component.__module__


def choices(group: str) -> tuple[str, ...]:
    """All names of a group, sorted; raises ConfigError if a plugin cannot be imported."""
    load_plugins()
    return tuple(sorted(_REGISTRY.get(group, {})))


def lookup(group: str, name: str) -> Any:
    """The class registered as `name` in `group`; raises ConfigError naming near matches."""
    if name not in (known := choices(group)):
        raise ConfigError(f"{group}={name} does not exist{suggest(name, known)}.")
    return _REGISTRY[group][name]

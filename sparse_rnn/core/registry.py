"""Components by name: what YAML calls `group/name` is registered in Python by `@register(group, name)`."""

import sys
from collections.abc import Callable
from typing import Any, TypeVar

from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.core.plugins import load_plugins

T = TypeVar("T", bound=type)

_REGISTRY: dict[str, dict[str, Any]] = {}


def register(group: str, name: str) -> Callable[[T], T]:
    """Make a class known as `name` in `group`; raises ConfigError if another class has the name.

    A class that is defined again, as by a cell of a notebook, replaces itself.
    """

    def add(component: T) -> T:
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

"""Components by name: what YAML calls `group/name` is registered in Python by `@register(group, name)`."""

from collections.abc import Callable
from typing import Any, TypeVar

from sparse_rnn.core.errors import ConfigError, suggest

T = TypeVar("T", bound=type)

_REGISTRY: dict[str, dict[str, Any]] = {}


def register(group: str, name: str) -> Callable[[T], T]:
    """Make a class known as `name` in `group`; raises ValueError if another class has the name."""

    def add(component: T) -> T:
        known = _REGISTRY.setdefault(group, {})
        if name in known:
            raise ValueError(f"{group}={name} is registered twice")
        known[name] = component
        return component

    return add


def choices(group: str) -> tuple[str, ...]:
    """All names of a group, sorted."""
    return tuple(sorted(_REGISTRY.get(group, {})))


def lookup(group: str, name: str) -> Any:
    """The class registered as `name` in `group`; raises ConfigError naming near matches."""
    if name not in _REGISTRY.get(group, {}):
        raise ConfigError(f"{group}={name} does not exist{suggest(name, choices(group))}.")
    return _REGISTRY[group][name]

"""Names of the components: `group/name` in YAML is `@register(group, name)` in Python."""

import difflib
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

T = TypeVar("T", bound=type)
_REGISTRY: dict[str, dict[str, Any]] = {}


MANY = 20


class ConfigError(ValueError):
    """A configuration that cannot run; its text is one sentence for the user."""

    exit_code = 2


class RunFailed(ConfigError):
    """A run that began and could not be brought to its end."""

    exit_code = 1


class RunLocked(ConfigError):
    """Another process works on the run."""

    exit_code = 3


def register(group: str, name: str) -> Callable[[T], T]:
    """Make a class known as `name` in `group`; a second class of that name is refused."""

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
        raise ConfigError(f"{group}={name} does not exist{near(name, choices(group))}.")
    return _REGISTRY[group][name]


def near(word: str, known: Iterable[str]) -> str:
    """A bracket for an error sentence: the near matches of `word`, or else all that is known."""
    names = sorted(str(k) for k in known)
    by_lower = {name.lower(): name for name in names}
    close = [by_lower[match] for match in difflib.get_close_matches(word.lower(), by_lower, n=3, cutoff=0.6)]
    if close:
        return f" (did you mean {' or '.join(close)}?)"
    shown = names if len(names) <= MANY else [*names[:MANY], "..."]
    return f" (choose from {', '.join(shown)})" if names else ""

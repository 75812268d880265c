"""Defaults of settings that were others once."""

from dataclasses import Field, field
from typing import Any

FORMERLY = "formerly"


def changed_default(value: Any, *, formerly: Any) -> Any:
    """A field of a dataclass with a default that has changed.

    A run's id leaves out what equals the former one, as it always did: so no run with a recipe gets another id.
    """
    return field(default=value, metadata={FORMERLY: formerly})


def former_default(setting: Field[Any], default: Any) -> Any:
    """The default that a field had first; `default` is today's."""
    return setting.metadata.get(FORMERLY, default)

"""What a command line asked for, in one spelling: how the header, the record and the errors of a run name it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sparse_rnn.config.differing import written
from sparse_rnn.config.identity import NOT_IDENTITY, NOT_OF_GROUP
from sparse_rnn.core.conf import GROUPS
from sparse_rnn.tables.settings import key_of, merged

MACHINE = NOT_IDENTITY | {f"{group}.{key}" for group in ("sparsifier", "training") for key in NOT_OF_GROUP[group]}
SEEDS = ("seed", "init_seed")


def asked_for(overrides: Iterable[str], config: Mapping[str, Any]) -> list[str]:
    """The overrides of a run, each key once, in a fixed order: groups, other keys as they were given, seeds.

    config: what they made, which has their numbers in one spelling: sparsifier.sparsity=0.9 for `.90`. Overrides of
    Hydra itself are left out.
    """
    settings = merged(overrides)
    own = [key for key in settings if not key.startswith(("hydra.", "hydra/"))]
    return [_normal(key, settings[key], config) for key in sorted(own, key=_place)]


def without_machine(asked: Sequence[str]) -> list[str]:
    """What was asked for, less what only says where and how a run computes: device, threads, logger and the like."""
    return [each for each in asked if (key := key_of(each)) not in MACHINE and key.partition(".")[0] not in MACHINE]


def in_one_line(asked: Sequence[str], width: int | None) -> str:
    """Overrides side by side; those that `width` characters (None: any number) have no room for are only counted."""
    for shown in range(len(asked), 0, -1):
        left = len(asked) - shown
        line = " ".join([*asked[:shown], *([f"... ({left} more)"] if left else [])])
        if width is None or len(line) <= width:
            return line
    return f"{asked[0][: max(0, (width or 0) - 3)]}..." if asked else ""


def _place(key: str) -> int:
    if key in SEEDS:
        return len(GROUPS) + 1 + SEEDS.index(key)
    return GROUPS.index(key) if key in GROUPS else len(GROUPS)


def _normal(key: str, override: str, config: Mapping[str, Any]) -> str:
    """The override with the value that the configuration has, where that is a number, true, false or null."""
    value: Any = config
    for part in key.split("."):
        value = value.get(part, ...) if isinstance(value, Mapping) else ...
    return override if value is ... or isinstance(value, str | list | Mapping) else f"{key}={written(value)}"

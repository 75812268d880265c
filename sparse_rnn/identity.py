"""What of a configuration decides what a run computes. Imports nothing heavy."""

from collections.abc import Mapping
from typing import Any

NOT_IDENTITY = frozenset({"logger", "device", "threads", "checkpoint"})
NOT_OF_GROUP = {"recipe": ("assumed", "model", "optimizer"), "sparsifier": ("backend",)}


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration (as_dict) that decides what a run computes."""
    own = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
    for group, keys in NOT_OF_GROUP.items():
        own[group] = {key: value for key, value in config[group].items() if key not in keys}
    return own

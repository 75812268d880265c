"""What of a configuration decides what a run computes. Imports nothing heavy."""

from collections.abc import Mapping
from typing import Any

NOT_IDENTITY = frozenset({"logger", "device", "threads", "checkpoint"})
RECIPE_NOTES = ("assumed", "model", "optimizer")


def identity(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration (as_dict) that decides what a run computes."""
    own = {key: value for key, value in config.items() if key not in NOT_IDENTITY}
    return own | {"recipe": {key: value for key, value in config["recipe"].items() if key not in RECIPE_NOTES}}

"""What ids, pages and tables call a data set. Imports nothing heavy."""

import re
from collections.abc import Mapping
from typing import Any

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import choices
from sparse_rnn.data.content import OWN

LONGEST = 64  # characters: a label becomes a part of the name of a run's folder


def dataset_name(config: Mapping[str, Any]) -> str:
    """The name of the data set with this configuration: the label that the user has given it, if any."""
    label = config.get("label") if config["name"] in OWN else ""
    return str(label or config["name"])


def check_label(label: str) -> None:
    """Raise ConfigError unless a label, if there is one, can name the user's files in ids."""
    if label and not re.fullmatch(r"[A-Za-z0-9_-]+", label):
        raise ConfigError(f"dataset.label={label} must be one word of the letters a to z, digits, '_' and '-'.")
    if len(label) > LONGEST:
        raise ConfigError(f"dataset.label={label} must have at most {LONGEST} characters.")
    if label in choices("dataset"):
        raise ConfigError(f"dataset.label={label} is the name of a data set itself: choose another label.")

"""The entries, and what the rules ask of the configuration of each."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from sparse_rnn.core.errors import ConfigError

ENTRIES = Path(__file__).with_name("entries.yaml")
RULES = {
    "dataset.name": "ptb",
    "threads": 2,
    "device": "cpu",
    "training.valid_batch": 10,
    "budget.train_tokens": None,
    "budget.eval_tokens": None,
}


def load_entries() -> dict[str, list[str]]:
    """The overrides of every entry, by its name."""
    return dict(yaml.safe_load(ENTRIES.read_text(encoding="utf-8")))


def arguments(overrides: Sequence[str], seed: int) -> list[str]:
    """The trainer's command line for one run of an entry."""
    return [*overrides, "device=cpu", "logger=files", f"seed={seed}"]


def check_rules(whose: str, config: Mapping[str, Any]) -> None:
    """Raise ConfigError unless a configuration, as a dictionary, keeps the rules; `whose` begins the sentence."""
    config = OmegaConf.create(dict(config))
    for key, value in RULES.items():
        if (own := OmegaConf.select(config, key)) != value:
            name = key.removesuffix(".name")
            raise ConfigError(f"{whose} has {name}={_shown(own)}, and the rules ask for {name}={_shown(value)}.")


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)

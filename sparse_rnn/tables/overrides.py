"""Overrides: merged by their keys, and swept in Hydra's grammar."""

from collections.abc import Iterable
from itertools import chain

from sparse_rnn.core.conf import SHORTHANDS
from sparse_rnn.core.errors import ConfigError

Settings = dict[str, str]  # overrides by their key


def merged(*layers: Iterable[str]) -> Settings:
    """Overrides by their key; a later one replaces an earlier one of the same key."""
    merged: Settings = {}
    for override in chain(*layers):
        key = key_of(override)
        merged.pop(key, None)
        merged[key] = override
    return merged


def key_of(override: str) -> str:
    key = override.lstrip("+~").partition("=")[0].partition("@")[0].strip()
    return SHORTHANDS.get(key, key)


def parse_seeds(text: str) -> list[int]:
    """Seeds in Hydra's grammar: 1,2,3 or range(1,4) or [1,2]; raises ConfigError."""
    seeds = [value.rpartition("=")[2] for value in values_of(f"seed={text.strip('[]')}")]
    if not seeds or not all(seed.isdecimal() for seed in seeds):
        raise ConfigError(f"seeds={text} must be whole numbers, as in seeds=1,2,3 or 'seeds=range(1,4)'.")
    return [int(seed) for seed in dict.fromkeys(seeds)]


def values_of(override: str) -> list[str]:
    """An override written out for every value that it sweeps over, by Hydra's grammar; raises ConfigError."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(override)
        if not parsed.is_sweep_override():
            return [override]
        return [f"{parsed.get_key_element()}={value}" for value in parsed.sweep_string_iterator()]
    except HydraException:
        raise ConfigError(f"The override {override!r} cannot be read: write key=value or key=a,b,c.") from None

"""Overrides that sweep over several values, in Hydra's grammar."""

from sparse_rnn.core.errors import ConfigError


def parse_seeds(text: str) -> list[int]:
    """Seeds in Hydra's grammar: 1,2,3 or range(1,4) or [1,2]; raises ConfigError."""
    seeds = [value.rpartition("=")[2] for value in values_of(f"seed={text.strip('[]')}")]
    if not seeds or not all(seed.isdecimal() for seed in seeds):
        raise ConfigError(f"seeds={text} must be whole numbers, as in seeds=1,2,3 or 'seeds=range(1,4)'.")
    return [int(seed) for seed in dict.fromkeys(seeds)]


def values_of(override: str) -> list[str]:
    """One override for each value that `override` sweeps over, by Hydra's grammar; raises ConfigError."""
    from hydra.core.override_parser.overrides_parser import OverridesParser  # plans and tables need not wait for Hydra
    from hydra.errors import HydraException

    try:
        parsed = OverridesParser.create().parse_override(override)
        if not parsed.is_sweep_override():
            return [override]
        return [f"{parsed.get_key_element()}={value}" for value in parsed.sweep_string_iterator()]
    except HydraException:
        raise ConfigError(f"The override {override!r} cannot be read: write key=value or key=a,b,c.") from None

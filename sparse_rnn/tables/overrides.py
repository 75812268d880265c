"""Overrides that sweep over several values, in Hydra's grammar."""

from sparse_rnn.core.bounds import check_seed, is_whole, refuse_runs
from sparse_rnn.core.errors import ConfigError


def parse_seeds(text: str) -> list[int]:
    """Seeds in Hydra's grammar: 1,2,3 or range(1,4) or [1,2]; raises ConfigError."""
    seeds = [value.rpartition("=")[2] for value in values_of(f"seed={text.strip('[]')}", f"seeds={text}")]
    if not seeds or not all(map(is_whole, seeds)):
        raise ConfigError(f"seeds={text} must be whole numbers, as in seeds=1,2,3 or 'seeds=range(1,4)'.")
    numbers = list(dict.fromkeys(map(int, seeds)))
    for number in numbers:
        check_seed("seeds", number)
    return numbers


def values_of(override: str, given: str | None = None) -> list[str]:
    """One override for each value that `override` sweeps over, by Hydra's grammar; raises ConfigError.

    given: as the user wrote it, for errors.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser  # plans and tables need not wait for Hydra
    from hydra.errors import HydraException

    from sparse_rnn.config.sweep_size import sweep_size

    try:
        parsed = OverridesParser.create().parse_override(override)
        if not parsed.is_sweep_override():
            return [override]
        refuse_runs(sweep_size(parsed))
        return [f"{parsed.get_key_element()}={value}" for value in parsed.sweep_string_iterator()]
    except ConfigError:
        raise
    except (HydraException, ValueError):
        raise ConfigError(f"The override {given or override!r} cannot be read: write key=value or key=a,b,c.") from None

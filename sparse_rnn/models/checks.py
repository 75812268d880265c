"""Checks of a model's settings, before any data is loaded. Each raises ConfigError, naming the setting."""

from sparse_rnn.core.bounds import check_whole
from sparse_rnn.core.errors import ConfigError

WIDEST = 1_000_000
MOST_PARTS = {"layers": 1_000, "depth": 1_000, "experts": 1_000}  # each is a module or more, built one by one


def check_sizes(**sizes: int) -> None:
    """Sizes must be at least 1, and not larger than any machine can hold."""
    for key, value in sizes.items():
        check_whole(f"model.{key}", value, 1, MOST_PARTS.get(key, WIDEST))


def check_dropouts(**dropouts: float) -> None:
    """Dropouts must lie in [0, 1)."""
    for key, value in dropouts.items():
        if not 0 <= value < 1:
            raise ConfigError(f"model.{key}={value} must lie in [0, 1).")


def check_penalties(**penalties: float) -> None:
    """Penalties must be numbers that are not negative."""
    for key, value in penalties.items():
        if not value >= 0:
            raise ConfigError(f"model.{key}={value} must not be negative.")


def check_init_range(init_range: float | None) -> None:
    """A range of initial values, if one is given, must be greater than 0."""
    if init_range is not None and not init_range > 0:
        raise ConfigError(f"model.init_range={init_range} must be greater than 0.")

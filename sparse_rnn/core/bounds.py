"""Bounds of numbers that users give, beyond what any machine can do, and their sentences. Imports nothing heavy."""

import math
import re

from sparse_rnn.core.errors import ConfigError

LARGEST = 10**9  # of a whole number that has no bound of its own
LARGEST_FLOAT = 1e37  # the weights are float32, whose largest number is 3.4e38
LARGEST_SEED = 2**63 - 1  # torch's generators take no more
MOST_THREADS = 1024  # libgomp puts a record of every thread on the stack: with 100,000 of them, it overflows
MOST_RUNS = 10_000  # of one command
MOST_DIGITS = 30


def check_whole(key: str, value: int, least: int, most: int = LARGEST) -> None:
    """Raise ConfigError unless the number lies between the bounds, both included."""
    if value < least:
        raise ConfigError(f"{key}={value} must be at least {least}.")
    if value > most:
        raise ConfigError(f"{key}={value} must be at most {most:,}.")


def check_real(key: str, value: float) -> None:
    """Raise ConfigError for what is no number, or too large for the weights' arithmetic."""
    if not math.isfinite(value):
        raise ConfigError(f"{key}={value} must be a finite number.")
    if abs(value) > LARGEST_FLOAT:
        raise ConfigError(f"{key}={value} must lie between -{LARGEST_FLOAT:g} and {LARGEST_FLOAT:g}.")


def check_seed(key: str, value: int) -> None:
    """Raise ConfigError unless the number can seed torch's generators."""
    if value < 0:
        raise ConfigError(f"{key}={value} must not be negative.")
    if value > LARGEST_SEED:
        raise ConfigError(f"{key}={value} must be at most {LARGEST_SEED:,}.")


def is_whole(text: str) -> bool:
    """Whether the text is a number in the digits 0 to 9, and not so long that reading it takes time."""
    return text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS


def check_device(name: str) -> None:
    """Raise ConfigError unless the name is one of a device, whether it exists here or not."""
    if not re.fullmatch(r"auto|cpu|cuda(:[0-9]{1,3})?", name):
        raise ConfigError(f"device={name} must be auto, cpu, cuda or cuda:N.")


def refuse_runs(total: float) -> None:
    """Raise ConfigError if so many runs are too many for one command."""
    if total > MOST_RUNS:
        number = f"{total:,.0f}" if total < 1e15 else "endlessly many"
        raise ConfigError(f"That would be {number} runs: a command takes {MOST_RUNS:,} at most, so ask for fewer.")

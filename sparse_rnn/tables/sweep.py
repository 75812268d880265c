"""A sweep: every combination of the values of some overrides, as `--sweep 'sparsifier=set,rigl seed=1,2'` gives it."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import TypeVar

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.tables.overrides import values_of
from sparse_rnn.tables.settings import merged

Facts = TypeVar("Facts")
Point = tuple[str, ...]  # one override for each key of a sweep


def parse_sweep(text: str) -> list[str]:
    """The overrides of a --sweep, each with all its values; raises ConfigError."""
    try:
        swept = shlex.split(text)
    except ValueError as error:
        raise ConfigError(f"--sweep {text!r} cannot be read ({error}): quote it as a whole.") from None
    if not swept:
        raise ConfigError("--sweep is empty: give it keys and values, as in --sweep 'sparsifier=set,rigl seed=1,2'.")
    return swept


def sweep_values(sweep: Sequence[str], seeds: Sequence[int] | None) -> list[list[str]]:
    """What each override of a sweep becomes in turn, each value once; empty without a sweep.

    seeds: in place of those of the sweep. Raises ConfigError.
    """
    given = [f"seed={','.join(map(str, seeds))}"] if sweep and seeds else []
    values = {override: list(dict.fromkeys(values_of(override))) for override in merged(sweep, given).values()}
    for override, each in values.items():
        if not each:
            raise ConfigError(f"{override} has no value: a range ends before its last number.")
    return list(values.values())


def points_of(
    values: Sequence[Sequence[str]], overrides: Sequence[str], compose: Callable[[Sequence[str]], Facts]
) -> Iterator[tuple[Point, Facts]]:
    """Every combination of the values, and what `compose` makes of the `overrides` and it.

    Raises ConfigError, of several combinations with a sentence that names the one that cannot be composed.
    """
    several = any(len(each) > 1 for each in values)
    for point in product(*values) if values else ():
        try:
            yield point, compose([*overrides, *point])
        except ConfigError as error:
            raise ConfigError(f"{' '.join(point)}: {error}" if several else str(error)) from error

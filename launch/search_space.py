"""What is tuned: keys, each with a range or choices, as in 'optimizer.lr=log(1,40) model.layers=int(1,3)'."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sparse_rnn.core.errors import ConfigError

if TYPE_CHECKING:  # only `tune` waits for it
    from optuna.distributions import BaseDistribution

LOG, UNIFORM, WHOLE, CHOICE = KINDS = ("log", "uniform", "int", "choice")
DIGITS = 4  # significant ones of a number that is tried: more say nothing, and make a command line hard to read
PARAMETER = re.compile(rf"([\w.@/]+)=({'|'.join(KINDS)})\(([^()]*)\)")


@dataclass(frozen=True)
class Parameter:
    """A key that is tuned. kind: one of KINDS. values: both ends of its range, or all its choices, as written."""

    key: str
    kind: str
    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.kind}({','.join(self.values)})"

    def distribution(self) -> "BaseDistribution":
        """What Optuna draws values from."""
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

        if self.kind == CHOICE:
            return CategoricalDistribution(self.values)
        low, high = map(float, self.values)
        if self.kind == WHOLE:
            return IntDistribution(int(low), int(high))
        return FloatDistribution(low, high, log=self.kind == LOG)

    def text(self, value: Any) -> str:
        """A value that Optuna drew, as an override has it: a number with DIGITS digits, within the range."""
        if self.kind in (CHOICE, WHOLE):
            return str(value)
        low, high = self.values
        rounded = float(f"{value:.{DIGITS}g}")
        return low if rounded <= float(low) else high if rounded >= float(high) else f"{rounded:g}"

    def override(self, value: Any) -> str:
        """The override for a value that Optuna drew."""
        return f"{self.key}={self.text(value)}"

    def extremes(self) -> list[str]:
        """The overrides of both ends of the range, or of all choices."""
        return [f"{self.key}={value}" for value in self.values]


def is_searched(argument: str) -> bool:
    """Whether an argument of the command line is about what is tuned."""
    return PARAMETER.search(argument) is not None


def parse_space(texts: Sequence[str]) -> list[Parameter]:
    """The parameters that these arguments name, each text with one or several; raises ConfigError."""
    found: dict[str, Parameter] = {}
    for text in texts:
        rest = PARAMETER.sub("", text).split()
        if rest:
            raise ConfigError(f"{' '.join(rest)!r} cannot be tuned: write key=log(1,40), uniform, int or choice.")
        for key, kind, inside in PARAMETER.findall(text):
            if key in found:
                raise ConfigError(f"{key} is tuned twice: give it one range.")
            found[key] = Parameter(key, kind, _values(key, kind, inside))
    return list(found.values())


def _values(key: str, kind: str, inside: str) -> tuple[str, ...]:
    values = tuple(value.strip() for value in inside.split(","))
    shown = f"{key}={kind}({inside})"
    if kind == CHOICE:
        if "" in values or len(set(values)) < len(values) or len(values) < 2:
            raise ConfigError(f"{shown} must have two different choices or more, as in {key}=choice(a,b).")
        return values
    if len(values) != 2:
        raise ConfigError(f"{shown} must have two ends, as in {key}={kind}(1,40).")
    try:
        low, high = map(int if kind == WHOLE else float, values)
    except ValueError:
        number = "a whole number" if kind == WHOLE else "a number"
        raise ConfigError(f"{shown}: each end must be {number}.") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ConfigError(f"{shown} must end above where it begins, at finite numbers.")
    if kind == LOG and low <= 0:
        raise ConfigError(f"{shown} must begin above 0: no logarithm goes on below it.")
    return values

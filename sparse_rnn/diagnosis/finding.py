"""What was found out about one thing, by a check that never raises. Imports nothing heavy."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import StrEnum

from sparse_rnn.core.errors import ConfigError


class State(StrEnum):
    """OK: it works. NOTE: the commands work without it. FAILED: they need it."""

    OK = "ok"
    NOTE = "note"
    FAILED = "FAIL"


@dataclass(frozen=True)
class Finding:
    """What is the matter with `name`, and what to do about it; both in a phrase, the second empty for nothing."""

    text: str
    state: State = State.OK
    advice: str = ""
    name: str = ""


@dataclass(frozen=True)
class Check:
    """A look at one thing, `name`. needed: whether the commands need it. otherwise: the advice if looking fails."""

    name: str
    needed: bool
    otherwise: str
    look: Callable[[], Finding]

    def __call__(self) -> Finding:
        """What was found; an error that the look raises is a finding."""
        try:
            return replace(self.look(), name=self.name)
        except ConfigError as error:  # whose sentence says what to do
            return replace(self.failing("cannot be used"), advice=str(error).rstrip("."))
        except Exception as error:
            said = str(error).strip().partition("\n")[0]
            return self.failing(f"{type(error).__name__}: {said}" if said else type(error).__name__)

    def failing(self, text: str) -> Finding:
        """The finding that looking has failed."""
        return Finding(text, State.FAILED if self.needed else State.NOTE, self.otherwise, self.name)


def check(name: str, *, needed: bool, otherwise: str) -> Callable[[Callable[[], Finding]], Check]:
    """Make a Check of a function."""
    return lambda look: Check(name, needed, otherwise, look)

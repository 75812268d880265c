"""The errors that a user meets, each one sentence, and suggestions for misspelt names."""

import difflib
from collections.abc import Iterable

MANY = 20  # names that an error lists at most


class ConfigError(ValueError):
    """A configuration that cannot run; its text is one sentence for the user."""

    exit_code = 2


class RunFailed(ConfigError):
    """A run that started and could not finish."""

    exit_code = 1


class RunLocked(ConfigError):
    """A run that another process is training."""

    exit_code = 3


class DeviceLost(RunFailed):
    """The device of a run was lost; the same command resumes it elsewhere."""

    exit_code = 4


class Diverged(RuntimeError):
    """A loss or a weight that is not a number, or infinite; its text is one sentence for the user."""


class DamagedFile(RuntimeError):
    """A file of a run that cannot be read back."""


def suggest(word: str, known: Iterable[str]) -> str:
    """For the end of an error sentence, in brackets: the names most like `word`, or else those that exist."""
    names = sorted(str(k) for k in known)
    by_lower = {name.lower(): name for name in names}
    close = [by_lower[match] for match in difflib.get_close_matches(word.lower(), by_lower, n=3, cutoff=0.6)]
    if close:
        return f" (did you mean {' or '.join(close)}?)"
    shown = names if len(names) <= MANY else [*names[:MANY], "..."]
    return f" (choose from {', '.join(shown)})" if names else ""

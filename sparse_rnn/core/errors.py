"""The errors that a user meets, each one sentence."""

import difflib
from collections.abc import Iterable

MANY = 20


class ConfigError(ValueError):
    """A configuration that cannot run; its text is one sentence for the user."""

    exit_code = 2


class RunFailed(ConfigError):
    """A run that began and could not be brought to its end."""

    exit_code = 1


class RunLocked(ConfigError):
    """Another process works on the run."""

    exit_code = 3


def suggest(word: str, known: Iterable[str]) -> str:
    """A bracket for an error sentence: the near matches of `word`, or else all that is known."""
    names = sorted(str(k) for k in known)
    by_lower = {name.lower(): name for name in names}
    close = [by_lower[match] for match in difflib.get_close_matches(word.lower(), by_lower, n=3, cutoff=0.6)]
    if close:
        return f" (did you mean {' or '.join(close)}?)"
    shown = names if len(names) <= MANY else [*names[:MANY], "..."]
    return f" (choose from {', '.join(shown)})" if names else ""


class DamagedFile(RuntimeError):
    """A file of a run that cannot be read back."""

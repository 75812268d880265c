"""Settings of single weights, by globs of their names: `sparsifier.groups`."""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from sparse_rnn.core.errors import ConfigError, suggest

KEYS = ("sparsity", "removal_rate")


def check_settings(groups: Mapping[str, Mapping[str, float]]) -> None:
    """Raise ConfigError for a setting that weights cannot have of their own, or a glob without any."""
    for glob, settings in groups.items():
        if not settings:
            raise ConfigError(f"sparsifier.groups: {glob} sets nothing: give it {' or '.join(KEYS)}, or leave it out.")
        for key in settings.keys() - set(KEYS):
            raise ConfigError(
                f"sparsifier.groups: {key} of {glob} is no setting of single weights{suggest(key, KEYS)}."
            )


def glob_of(names: Iterable[str], globs: Iterable[str]) -> dict[str, str | None]:
    """The glob that decides for each name, the last one that matches it; None if none does.

    Raises ConfigError for a glob that matches no name, or decides for none.
    """
    known, globs = list(names), list(globs)
    deciding = {name: next((g for g in reversed(globs) if fnmatchcase(name, g)), None) for name in known}
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in known):
            raise ConfigError(f"sparsifier.groups: {glob} matches no sparse weight{suggest(glob, known)}.")
        if glob not in deciding.values():
            raise ConfigError(
                f"sparsifier.groups: {glob} decides for no weight, since later globs match all of its weights: put it "
                "after them, or leave it out."
            )
    return deciding

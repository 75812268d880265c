"""The run that a user names: by its folder, its id, the beginning of its id, or as the last one.

Imports nothing heavy: a wrong name is refused before torch is loaded.
"""

import os
from collections.abc import Collection
from pathlib import Path

from sparse_rnn.core.errors import ConfigError, DamagedFile, suggest
from sparse_rnn.core.wording import counted
from sparse_rnn.runs.folder import RunFolder, load_record, read_record, runs_root

LAST = "last"
NAMED = 3  # of the ids that one beginning fits, how many an error names


class NoSuchRun(ConfigError):
    """A name that is neither a run's folder nor its id, nor the beginning of an id."""


def find_run(name: str, *, untrained: bool = False) -> RunFolder:
    """The folder of a run given by its path, by its id or the beginning of it, or by `last`.

    untrained: whether a run without weights so far can be the last one. Raises ConfigError with a sentence that names
    the runs that are meant, or those with a similar name.
    """
    if not name:
        raise ConfigError("Which run? Give run=<id, its beginning, or folder>, as in run=rhn-ptb-selfish, or run=last.")
    for path in (Path(name), runs_root() / name):
        if os.path.lexists(path / "record.json"):  # whatever it is: to read it says what is wrong with it
            check_record(folder := RunFolder(path))
            return folder
    place = Path(name).parent if os.path.basename(name) != name else runs_root()
    known = [path.parent.name for path in place.glob("*/record.json")]
    folder = RunFolder(place / meant(Path(name).name, known, place, f"run={name}", untrained=untrained))
    check_record(folder)
    return folder


def meant(name: str, known: Collection[str], place: Path, given: str, *, untrained: bool = False) -> str:
    """The id among those `known` in the folder `place` that a name means; `last`: see `last_run`.

    given: the name as the user wrote it, for the errors. Raises NoSuchRun if it means none, ConfigError if several.
    """
    if name in known:
        return name
    if name == LAST:
        return last_run(known, place, untrained=untrained)
    fitting = sorted(each for each in known if name and each.startswith(name))
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise NoSuchRun(f"{given} does not exist in {place}{suggest(name, known)}.")
    others = len(fitting) - NAMED
    named = ", ".join(fitting[:NAMED]) + (f" and {others} more" if others > 0 else "")
    raise ConfigError(f"{given} fits {counted(len(fitting), 'run')}: {named}; write more of the id.")


def last_run(known: Collection[str], place: Path, *, untrained: bool = False) -> str:
    """The run that was finished or trained last, as the records say.

    untrained: whether a run without weights so far counts. Raises ConfigError if there is none.
    """
    times = {}
    for run_id in sorted(known):
        folder = RunFolder(place / run_id)
        record = read_record(folder)
        if record and (untrained or record["status"] == "finished" or _has_weights(folder)):
            # Older records do not say when they were written.
            times[run_id] = max(record.get(key) or 0.0 for key in ("written", "finished", "started"))
    if not times:
        raise ConfigError(f"run={LAST}: no run in {place} has been trained yet.")
    return max(times, key=lambda run_id: times[run_id])


def _has_weights(folder: RunFolder) -> bool:
    return any(path.exists() for path in (folder.best, folder.checkpoint, folder.previous_checkpoint))


def check_record(folder: RunFolder) -> None:
    """Raise ConfigError with a sentence that names the record if it is there and cannot be used."""
    try:
        load_record(folder)
    except DamagedFile as error:
        raise ConfigError(str(error)) from None

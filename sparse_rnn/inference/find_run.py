"""The folder of a run that a user names. Imports nothing heavy: a wrong name is refused before torch is loaded."""

import os
from pathlib import Path

from sparse_rnn.core.errors import ConfigError, DamagedFile, suggest
from sparse_rnn.runs.folder import RunFolder, load_record, runs_root


def find_run(name: str) -> RunFolder:
    """The folder of a run given by its id or its path; raises ConfigError naming near matches."""
    if not name:
        raise ConfigError("Which run? Give run=<id or folder>, as in run=rhn-ptb-selfish-s1-0a1b2c3d.")
    for path in (Path(name), runs_root() / name):
        if os.path.lexists(path / "record.json"):  # whatever it is: to read it says what is wrong with it
            check_record(folder := RunFolder(path))
            return folder
    known = [path.parent.name for path in runs_root().glob("*/record.json")]
    raise ConfigError(f"run={name} does not exist in {runs_root()}{suggest(Path(name).name, known)}.")


def check_record(folder: RunFolder) -> None:
    """Raise ConfigError with a sentence that names the record if it is there and cannot be used."""
    try:
        load_record(folder)
    except DamagedFile as error:
        raise ConfigError(str(error)) from None

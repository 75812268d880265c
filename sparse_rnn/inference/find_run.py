"""The folder of a run that a user names. Imports nothing heavy: a wrong name is refused before torch is loaded."""

from pathlib import Path

from sparse_rnn.core.errors import ConfigError, suggest
from sparse_rnn.runs.folder import RunFolder, runs_root


def find_run(name: str) -> RunFolder:
    """The folder of a run given by its id or its path; raises ConfigError naming near matches."""
    if not name:
        raise ConfigError("Which run? Give run=<id or folder>, as in run=rhn-ptb-selfish-s1-0a1b2c3d.")
    for path in (Path(name), runs_root() / name):
        if (path / "record.json").is_file():
            return RunFolder(path)
    known = [path.parent.name for path in runs_root().glob("*/record.json")]
    raise ConfigError(f"run={name} does not exist in {runs_root()}{suggest(Path(name).name, known)}.")

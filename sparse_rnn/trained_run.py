"""A trained run, given by its id or its folder: configuration, record and data."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparse_rnn.checkpoint import DamagedFile
from sparse_rnn.config import Run, run_from_dict
from sparse_rnn.data.datasets import Data
from sparse_rnn.registry import ConfigError, near
from sparse_rnn.run_folder import RunFolder, read_record, runs_root


def read_run(name: str) -> tuple[RunFolder, dict[str, Any], Run]:
    """Folder, record and configuration; raises ConfigError."""
    folder = find_run(name)
    record = read_record(folder)
    if record is None:
        raise ConfigError(f"{folder.path} holds no run: its record.json is missing or cannot be read.")
    return folder, record, run_from_dict(record["config"])


def find_run(name: str) -> RunFolder:
    """The folder; raises ConfigError naming near matches."""
    if not name:
        raise ConfigError("Which run? Give run=<id or folder>, as in run=rhn-ptb-selfish-s1-0a1b2c3d.")
    for path in (Path(name), runs_root() / name):
        if (path / "record.json").is_file():
            return RunFolder(path)
    known = [path.parent.name for path in runs_root().glob("*/record.json")]
    raise ConfigError(f"run={name} does not exist in {runs_root()}{near(Path(name).name, known)}.")


def load_data(folder: RunFolder, record: dict[str, Any], run: Run) -> Data:
    """What it was trained on, as far as its budget goes; raises ConfigError if the data are others by now."""
    data = run.dataset.load()
    if data.sha256 != record["data_sha256"]:
        raise ConfigError(f"The data are not those that {folder.path} was trained on: their SHA-256 differs.")
    return data.limited(run.budget.train_tokens, run.budget.eval_tokens)


@contextmanager
def sound_files() -> Iterator[None]:
    """What damaged files of a run raise: ConfigError."""
    try:
        yield
    except DamagedFile as error:
        raise ConfigError(str(error)) from None

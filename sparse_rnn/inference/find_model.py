"""The trained model that a user names: a run, an exported file or folder, the example, or a model of a hub.

Imports nothing heavy: a wrong name is refused before torch is loaded.
"""

import os
import re
from pathlib import Path

from sparse_rnn.core.command_line import warn
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.inference.find_run import NoSuchRun, find_run
from sparse_rnn.runs.folder import RunFolder

EXAMPLE = "example"
MODEL_FILE = "model.safetensors"  # in a folder that is shared
SUFFIX = Path(MODEL_FILE).suffix  # of a file that was misspelt, not of a model of a hub
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)


def example_folder() -> Path:
    """The folder of the model that comes with the package, as `export format=hub` wrote it."""
    return Path(__file__).parent.parent / EXAMPLE


def find_model(run: str, file: str) -> RunFolder | Path:
    """The run that `run` names, or the exported file that `file` names or `run=example` means. Raises ConfigError.

    A run of the user's that is called example goes before the one that comes with the package, with a warning.
    """
    if run and file:
        raise ConfigError(f"run={run} and file={file} are two models: leave one of them out.")
    if file:
        return exported_file(file, shown=f"file={file}")
    if run != EXAMPLE:
        return find_run(run)
    try:
        own = find_run(run)
    except NoSuchRun:
        return example_folder() / MODEL_FILE
    warn(f"run={run} is {own.path}, not the model that comes with sparse_rnn, which is file={example_folder()}")
    return own


def exported_file(name: Path | str, revision: str | None = None, *, shown: str = "") -> Path:
    """The safetensors file of an exported model, named as for `load_exported`; raises ConfigError.

    shown: what errors call it.
    """
    path, shown = Path(name), shown or str(name)
    here = os.path.lexists(path)
    if revision and (here or name == EXAMPLE):
        raise ConfigError(f"revision={revision} is that of a model of a hub, and {shown} is here: leave it out.")
    if here:
        if name == EXAMPLE:
            warn(f"{name} is {path.absolute()}, not the model that comes with sparse_rnn, which is {example_folder()}")
        return _file_in(path, shown)
    if name == EXAMPLE:
        return example_folder() / MODEL_FILE
    if isinstance(name, str) and HUB_NAME.fullmatch(name) and path.suffix != SUFFIX:
        from sparse_rnn.inference.hub import downloaded

        return downloaded(name, MODEL_FILE, revision)
    raise ConfigError(f"{shown} does not exist.")


def _file_in(path: Path, shown: str) -> Path:
    """The file itself, or that of a folder; raises ConfigError for a folder without one."""
    if not path.is_dir():
        return path
    if not os.path.lexists(path / MODEL_FILE):
        raise ConfigError(f"{shown} is a folder without {MODEL_FILE}, which `export format=hub` writes.")
    return path / MODEL_FILE

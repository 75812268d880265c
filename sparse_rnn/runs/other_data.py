"""Runs of the user's files that were trained on what these held before. Imports nothing heavy."""

import glob
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from sparse_rnn.config.stored import changed_keys
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.content import READING_KEYS, files_of
from sparse_rnn.runs.folder import RunFolder, read_record


def earlier_run(folder: RunFolder, config: Mapping[str, Any], data_sha256: str | None) -> Path | None:
    """The folder of a run of the same configuration and files, but other data; None if there is none beside `folder`.

    What the files hold is part of a run's id, so that it lies in another folder once they have changed.
    """
    files = files_of(config["dataset"])
    if not files:
        return None
    alike, _, _ = folder.path.name.rpartition("-")
    for path in sorted(folder.path.parent.glob(f"{glob.escape(alike)}-*")):
        other = read_record(RunFolder(path))
        if other is not None and other.get("data_files") == files and other["data_sha256"] != data_sha256:
            with suppress(ConfigError):  # of another version
                if not changed_keys(other["config"], config) and _read_alike(other["config"], config):
                    return path
    return None


def _read_alike(recorded: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether both read their files in the same way, as far as the recorded configuration says how it did."""
    old, new = recorded["dataset"], config["dataset"]
    return all(old.get(key, new.get(key)) == new.get(key) for key in READING_KEYS)

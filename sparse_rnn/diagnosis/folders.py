"""Folders: configuration, runs and data, and whether files can be written there."""

import os
import shutil
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from sparse_rnn.core.conf import options, search_path
from sparse_rnn.core.wording import counted
from sparse_rnn.data.content import OWN, data_root
from sparse_rnn.diagnosis.finding import Finding, State, check
from sparse_rnn.runs.folder import runs_root

LITTLE = 1 << 30  # bytes
EMBEDDED = "pydoc"


@check("configuration", needed=True, otherwise="reinstall: pip install --force-reinstall sparse-rnn")
def configuration() -> Finding:
    """The folders of configuration files."""
    built_in, *own = search_path()
    if not options("model"):
        return Finding(f"{built_in} has no files", State.FAILED, "pip install --force-reinstall sparse-rnn")
    return Finding(f"{built_in}{''.join(f', {folder}' for folder in own)}")


@check("runs", needed=True, otherwise="name another folder with SPARSE_RNN_RUNS")
def runs() -> Finding:
    """Where runs are written."""
    folder = runs_root().absolute()
    if reason := unwritable(folder):
        return Finding(f"{folder} {reason}", State.FAILED, "name a folder that takes files with SPARSE_RNN_RUNS")
    there = sum(1 for _ in folder.glob("*/record.json"))
    free = _free(folder)
    text = f"{folder}, {counted(there, 'run')}, {free / 1e9:,.0f} GB free"
    if free < LITTLE:
        return Finding(text, State.NOTE, "make room, or name another folder with SPARSE_RNN_RUNS")
    return Finding(text)


@check("data", needed=False, otherwise="name another folder with SPARSE_RNN_DATA")
def data() -> Finding:
    """Which data sets are there; those that come with Python need no file."""
    folder = data_root().absolute()
    found = [name for name in options("dataset") if name not in OWN and _holds_files(folder / name)]
    if found:
        return Finding(f"{folder}: {', '.join(found)}")
    text = f"none in {folder}; dataset={EMBEDDED} needs none"
    if reason := unwritable(folder):
        return Finding(f"{text}; {reason}", State.NOTE, "name a folder that takes files with SPARSE_RNN_DATA")
    return Finding(f"{text}, ptb is downloaded at first use")


def unwritable(folder: Path) -> str:
    """Why no file can be written into a folder, which need not be there yet, in a phrase; empty if one can."""
    with suppress(OSError):
        while not os.path.lexists(folder):
            folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(4096))
            probe.flush()
    except OSError as error:
        return f"takes no files ({error.strerror or error})"
    return ""


def _free(folder: Path) -> int:
    """Bytes that are free on the disk of a folder, which need not be there yet."""
    return next(shutil.disk_usage(path).free for path in _upwards(folder) if path.exists())


def _upwards(folder: Path) -> Iterable[Path]:
    return folder, *folder.parents


def _holds_files(folder: Path) -> bool:
    """Whether a folder holds more than what downloads leave behind."""
    return folder.is_dir() and any(not path.name.startswith(".") for path in folder.iterdir())

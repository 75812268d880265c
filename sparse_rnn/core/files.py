"""Files that are complete or not there. Imports nothing heavy.

There are two ways to write one. `atomic` is for what a run must not lose: it waits until the disk has the file.
`write_json` is for caches and bookkeeping, which are written often: it does not wait. Several processes, of any hosts,
may write the same file, each through a draft of its own. A file of a locked run is written under the lock only.
"""

import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from sparse_rnn.core.lock import confirm_lock, unfinished


@contextmanager
def atomic(path: Path, previous: Path | None = None) -> Iterator[Path]:
    """A draft to write, which replaces `path` and survives a power failure; on an error the old file stays.

    previous: the name that the old file is kept under. The draft is there already, empty, with the mode that the umask
    gives. Raises OSError, also if there is something at `path` that is no plain file.
    """
    refuse_special(path)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    unfinished.add(draft)
    try:
        _create(draft)
        yield draft
        with draft.open("rb+") as stream:
            os.fsync(stream.fileno())
        if previous is not None and path.exists():
            replace(path, previous)
        replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
        unfinished.discard(draft)


def remove_drafts(path: Path) -> None:
    """Remove what processes have left that were killed while `atomic` wrote this file, or would still complete."""
    for draft in path.parent.glob(f".{path.name}.*tmp"):
        draft.unlink(missing_ok=True)


def replace(file: Path, by_name: Path) -> None:
    """Rename a file, which may replace another of its folder; the new name survives a power failure."""
    confirm_lock(by_name)
    file.replace(by_name)
    descriptor = os.open(by_name.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _create(draft: Path) -> None:
    """Make an empty file, with the mode that the umask gives; raises OSError if there is anything of that name."""
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))


def refuse_special(path: Path) -> None:
    """Raise OSError if there is something at `path` that is no plain file: a device, a folder, a pipe, a link."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise FileExistsError(errno.EEXIST, f"{path.name} is no plain file", str(path))


def open_to_append(path: Path) -> BinaryIO:
    """Open a file to read it and append to it; raises OSError for anything but a plain file, also for a link to one."""
    refuse_special(path)  # first: opening a pipe would wait for ever
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileExistsError(errno.EEXIST, f"{path.name} is no plain file", str(path))
    return os.fdopen(descriptor, "ab+")


def write_text(path: Path, text: str) -> None:
    """Write a text file by `atomic`."""
    with atomic(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write an object, so that no reader sees half of it."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        _create(draft)
        draft.write_text(json.dumps(content) + "\n", encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)

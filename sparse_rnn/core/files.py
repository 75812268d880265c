"""Files that are complete or not there. Imports nothing heavy.

There are two ways to write one. `atomic` is for what a run must not lose: it waits until the disk has the file.
`write_json` is for caches and bookkeeping, which are written often: it does not wait. Several processes, of any hosts,
may write the same file, each through a draft of its own. A file of a locked run is written under the lock only.
"""

import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sparse_rnn.core.lock import confirm_lock, unfinished


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A draft to write, which replaces `path` and survives a power failure; on an error the old file stays."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")
    unfinished.add(draft)
    try:
        yield draft
        with draft.open("rb+") as stream:
            os.fsync(stream.fileno())
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


def write_text(path: Path, text: str) -> None:
    """Write a text file by `atomic`."""
    with atomic(path) as draft:
        draft.write_text(text, encoding="utf-8")


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Write an object, so that no reader sees half of it."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        draft.write_text(json.dumps(content) + "\n", encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)

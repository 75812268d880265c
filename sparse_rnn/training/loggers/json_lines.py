"""metrics.jsonl, the log that results are computed from."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from sparse_rnn.core.errors import DamagedFile
from sparse_rnn.core.files import open_to_append
from sparse_rnn.core.lock import confirm_lock
from sparse_rnn.core.reading import open_plain
from sparse_rnn.training.loggers.base import Logger, Row

EMPTY = {"bytes": 0, "sha256": hashlib.sha256().hexdigest()}
Position = Mapping[str, Any] | int  # older checkpoints hold the length alone


class JsonLines(Logger):
    """A file with one JSON object per row. A resumed run truncates it to `cut_at`, where the last checkpoint was.

    Raises DamagedFile if the file does not hold what it held then, and OSError.
    """

    def __init__(self, path: Path, cut_at: Position = EMPTY) -> None:
        self._path, self._stream = path, open_to_append(path)
        self._sum = _sum_until(self._stream, path, cut_at)
        confirm_lock(path)
        self._stream.truncate(self._stream.tell())

    def row(self, row: Row) -> None:
        """Append a row."""
        confirm_lock(self._path)
        line = json.dumps(row).encode() + b"\n"
        self._sum.update(line)
        self._stream.write(line)
        self._stream.flush()

    def written(self) -> list[Row]:
        """All rows so far."""
        return [json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines()]

    def position(self) -> dict[str, Any]:
        """Length in bytes and SHA-256 of the file, once all of it is safely on disk."""
        os.fsync(self._stream.fileno())
        return {"bytes": self._stream.seek(0, os.SEEK_END), "sha256": self.sha256}

    @property
    def sha256(self) -> str:
        """That of all rows so far."""
        return self._sum.hexdigest()

    def check(self) -> None:
        """Wait until all rows are safely on disk; raises DamagedFile if the file does not hold what was written."""
        check_rows(self._path, self.position())

    def finish(self, exit_code: int) -> None:
        """Close the file."""
        with suppress(OSError):  # of a row that could not be written, which `row` has reported
            self._stream.close()


def check_rows(path: Path, cut_at: Position) -> None:
    """Raise DamagedFile unless a file holds, up to this position, what it held then; OSError if it cannot be read."""
    try:
        stream = open_plain(path)
    except FileNotFoundError:
        raise DamagedFile(f"{path} is missing") from None
    with stream:
        _sum_until(stream, path, cut_at)


def _sum_until(stream: BinaryIO, path: Path, cut_at: Position) -> "hashlib._Hash":
    """SHA-256 of a file up to a position, which it is left at. Raises DamagedFile."""
    length, expected = (cut_at, None) if isinstance(cut_at, int) else (cut_at["bytes"], cut_at["sha256"])
    stream.seek(0)
    content = stream.read(length)
    if len(content) < length:
        raise DamagedFile(f"{path} has lost rows")
    total = hashlib.sha256(content)
    if expected not in (None, total.hexdigest()):
        raise DamagedFile(f"{path} is damaged: its rows are not those that were written")
    return total

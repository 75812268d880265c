"""metrics.jsonl, the log that results are computed from."""

import json
import os
from contextlib import suppress
from pathlib import Path

from sparse_rnn.core.errors import DamagedFile
from sparse_rnn.core.lock import confirm_lock
from sparse_rnn.training.loggers.base import Row


class JsonLines:
    """A file with one JSON object per row. A resumed run truncates it to `cut_at`, its length at the last checkpoint.

    Raises DamagedFile if the file is shorter than that.
    """

    def __init__(self, path: Path, cut_at: int) -> None:
        self._path, self._stream = path, path.open("ab")
        if self._stream.seek(0, os.SEEK_END) < cut_at:
            raise DamagedFile(f"{path} has lost rows: remove checkpoint.pt beside it to restart the run.")
        confirm_lock(path)
        self._stream.truncate(cut_at)

    def row(self, row: Row) -> None:
        """Append a row."""
        confirm_lock(self._path)
        self._stream.write(json.dumps(row).encode() + b"\n")
        self._stream.flush()

    def written(self) -> list[Row]:
        """All rows so far."""
        return [json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines()]

    def position(self) -> int:
        """The length of the file in bytes, once all of it is safely on disk."""
        os.fsync(self._stream.fileno())
        return self._stream.seek(0, os.SEEK_END)

    def finish(self, exit_code: int) -> None:
        """Close the file."""
        with suppress(OSError):  # of a row that could not be written, which `row` has reported
            self._stream.close()

"""A cache of the segments of W&B's logs below a folder, in `.results/index.json`: all that they hold but their rows.

Losing the file only costs time. If two processes write it at once, the last one wins, which is harmless.
"""

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sparse_rnn.core.files import write_json
from sparse_rnn.core.reading import read_cache
from sparse_rnn.core.shapes import misfit

from .wandb_file import NotALog, Segment, read_segment

VERSION = 1  # of the file: one of another version is not read
PRIVATE = ".results"


class LogIndex:
    """The segments below a folder; an entry is valid until the size or the modification time of its log changes."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._file = folder, folder / PRIVATE / "index.json"
        kept = read_cache(self._file)
        files = kept.get("files") if kept.get("version") == VERSION else None
        self._kept: dict[str, Any] = files if isinstance(files, dict) else {}
        self._changed = False

    def segment(self, path: Path) -> Segment:
        """The segment of a log, from the cache if the log has not changed; raises NotALog and OSError."""
        name, status = str(path.relative_to(self._folder)), path.stat()
        stamp = [status.st_size, status.st_mtime_ns]
        found = _unpacked(self._kept.get(name), stamp)
        if found is None:
            found = _read(path)
            holds = {"problem": str(found)} if isinstance(found, NotALog) else {"segment": asdict(found)}
            self._kept[name] = {"stamp": stamp, **holds}
            self._changed = True
        if isinstance(found, NotALog):
            raise found
        return found

    def save(self) -> None:
        """Write the cache if it has changed, without logs that are gone. Does nothing if the folder is read-only."""
        if not self._changed:
            return
        files = {name: entry for name, entry in self._kept.items() if (self._folder / name).exists()}
        with suppress(OSError):
            self._file.parent.mkdir(exist_ok=True)
            write_json(self._file, {"version": VERSION, "files": files})


def _read(path: Path) -> Segment | NotALog:
    try:
        return read_segment(path)
    except NotALog as problem:
        return problem


def _unpacked(entry: Any, stamp: list[int]) -> Segment | NotALog | None:
    """What an entry holds; None if there is none, if it is damaged, or if the log has changed since."""
    if not isinstance(entry, dict) or entry.get("stamp") != stamp:
        return None
    if "problem" in entry:
        return NotALog(entry["problem"])
    segment: dict[str, Any] = entry.get("segment", {})
    return None if misfit(segment, Segment) else Segment(**segment)

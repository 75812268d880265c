"""What W&B's logs below a folder hold but their rows, kept in `.results/index.json`, so that it is not read again.

Losing the file costs time, nothing else. Two processes that write it at once are harmless: the last one wins.
"""

from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from results.sources.wandb_file import NotALog, Segment, read_segment
from sparse_rnn.core.files import read_json, write_json

VERSION = 1  # of what is kept: another one is not read
PRIVATE = ".results"


class LogIndex:
    """The segments below a folder; an entry holds as long as the file's size and time of change do."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._file = folder, folder / PRIVATE / "index.json"
        kept = read_json(self._file)
        files = kept.get("files") if kept.get("version") == VERSION else None
        self._kept: dict[str, Any] = files if isinstance(files, dict) else {}
        self._changed = False

    def segment(self, path: Path) -> Segment:
        """What a log holds but its rows; raises NotALog, and OSError."""
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
        """Write what has changed, without files that are gone, if the folder can be written."""
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
    """What an entry says, None if the file is another by now or the entry is none."""
    if not isinstance(entry, dict) or entry.get("stamp") != stamp:
        return None
    if "problem" in entry:
        return NotALog(entry["problem"])
    try:
        return Segment(**entry["segment"])
    except (KeyError, TypeError):
        return None

"""What a data set holds, by its SHA-256, remembered as long as its files stay as they are. Imports nothing heavy."""

import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

from sparse_rnn.core.files import write_json
from sparse_rnn.core.reading import read_cache
from sparse_rnn.core.shapes import misfit

if TYPE_CHECKING:  # it brings torch, for which `launch status` must not wait
    from sparse_rnn.data.base import DatasetConfig

OWN = ("text", "labelled_text")  # data sets of the user's files: what these hold counts, not where they are
FILE_KEYS = ("train", "valid", "test")  # their settings that name files
READING_KEYS = ("format", "label_key", "text_key")  # those that say how the files are read: it shows in what they hold
OUTSIDE = (*FILE_KEYS, "label", *READING_KEYS)  # those that decide nothing beside what the files hold
CHANGED = ""  # in the place of a SHA-256: another one than before, whichever

_loaded: dict[tuple[str, str], str] = {}  # by setting and facts of the files; the data folder may be read-only


class _Entry(TypedDict):
    """What is remembered of a data set: its source files, what their state was, the SHA-256 of what they hold."""

    sources: list[str]
    facts: str
    sha256: str


def data_root() -> Path:
    """The folder of all data sets: the variable SPARSE_RNN_DATA, or else `data`."""
    return Path(os.path.expanduser(os.environ.get("SPARSE_RNN_DATA", "data")))


def files_of(config: Mapping[str, Any]) -> list[str]:
    """The user's files that a data set's configuration names, however it spells them; none for other data sets."""
    named = [config.get(key) for key in FILE_KEYS] if config["name"] in OWN else []
    return [os.path.realpath(name) for name in named if name]


def content(dataset: "DatasetConfig") -> str | None:
    """The SHA-256 of the data that `load` would give now; they are read unless they are remembered.

    None where there is nothing to compare: what is downloaded is checked by its own SHA-256, and files that the user
    has to get may not be here. Raises ConfigError for data that cannot be read.
    """
    find = getattr(dataset, "content_sources", None)
    sources = find() if find else []
    if not any(source.exists() for source in sources):
        return None
    key, facts = _key(asdict(dataset)), _facts(sources)  # type: ignore[call-overload]
    entry = _recalled(key)
    if entry and entry["facts"] == facts:
        return entry["sha256"]
    if (key, facts) not in _loaded:
        _loaded[key, facts] = dataset.load().sha256
    sha256 = _loaded[key, facts]
    _remember(key, {"sources": [os.path.abspath(source) for source in sources], "facts": facts, "sha256": sha256})
    return sha256


def remembered(config: Mapping[str, Any]) -> str | None:
    """`content` of the data set with this configuration as far as it is known without reading data.

    None if it was never read here; CHANGED if its files are not as they were then.
    """
    entry = _recalled(_key(config))
    if entry is None:
        return None
    sources = [Path(source) for source in entry["sources"]]
    if not any(source.exists() for source in sources):
        return None
    return entry["sha256"] if _facts(sources) == entry["facts"] else CHANGED


def file_facts(source: Path) -> Iterator[tuple[str, int, int, int, int]]:
    """Path and what changes with the content, of a file, or of each file in a folder; raises OSError.

    Size and time of the last change in ns may be set back by whoever changes a file. Inode and ctime may not.
    """
    if source.is_dir():
        with os.scandir(source) as entries:
            found = sorted((entry.path, entry.stat()) for entry in entries if not entry.is_dir())
    else:
        found = [(str(source), source.stat())]
    for path, status in found:
        yield path, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _facts(sources: list[Path]) -> str:
    facts = [list(file_facts(source.resolve())) if source.exists() else None for source in sources]
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def _key(config: Mapping[str, Any]) -> str:
    unread = dict.fromkeys((*FILE_KEYS, "label")) if config["name"] in OWN else {}
    given = [{**config, **unread}, files_of(config)]
    return hashlib.sha256(json.dumps([sys.version, given], sort_keys=True).encode()).hexdigest()[:16]


def _memory() -> Path:
    return data_root() / ".contents.json"


def _recalled(key: str) -> _Entry | None:
    entry = read_cache(_memory()).get(key)
    return None if misfit(entry, _Entry) else entry


def _remember(key: str, entry: _Entry) -> None:
    with suppress(OSError):  # it only saves time
        write_json(_memory(), read_cache(_memory()) | {key: entry})

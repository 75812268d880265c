"""Files that others may have written or damaged: plain ones only, up to a size, JSON of a known shape.

Imports nothing heavy. What is no plain file, such as a FIFO, which would have its reader wait for ever, raises OSError.
"""

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

from sparse_rnn.core.command_line import warn
from sparse_rnn.core.errors import DamagedFile
from sparse_rnn.core.shapes import deeper_than, misfit, misfits

LARGEST_JSON = 64 * 2**20  # bytes
LARGEST_LOG = 4 * 2**30
DEEPEST = 40  # levels of JSON; the records of runs have 5
NOT_PLAIN = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a FIFO",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def check_plain(path: Path) -> None:
    """Raise OSError unless there is a plain file, or a link to one."""
    _refuse_others(path, path.stat().st_mode)


def _refuse_others(path: Path, mode: int) -> None:
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, f"it is {NOT_PLAIN.get(stat.S_IFMT(mode), 'something else')}, no file", str(path))


def open_plain(path: Path) -> BinaryIO:
    """Open a plain file for reading, without waiting for anything; raises OSError."""
    check_plain(path)  # first, since to open a device may do something
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _refuse_others(path, os.fstat(descriptor).st_mode)
        return os.fdopen(descriptor, "rb")
    except OSError:
        os.close(descriptor)
        raise


def read_bytes(path: Path, largest: int = LARGEST_LOG) -> bytes:
    """All of a plain file; raises OSError, also if it is larger than `largest`."""
    with open_plain(path) as stream:
        if os.fstat(stream.fileno()).st_size > largest:
            raise OSError(errno.EFBIG, f"it is larger than {largest >> 20:,} MiB", str(path))
        return stream.read(largest)


def parse_json(text: bytes) -> Any:
    """A JSON value; raises ValueError for what is none, or is nested too deeply."""
    try:
        value = json.loads(text.decode())
    except UnicodeDecodeError:
        raise ValueError("it is no text") from None
    except json.JSONDecodeError:
        raise ValueError("it is no JSON") from None
    except RecursionError:
        value = None
    else:
        if not deeper_than(value, DEEPEST):
            return value
    raise ValueError("it is nested too deeply")


def load_object(path: Path, shape: Any, what: str) -> dict[str, Any] | None:
    """The JSON object in a file, None if there is no file. what: it should be, as in `the record of a run`.

    Raises DamagedFile if it cannot be read or has not the shape, see `misfit`.
    """
    try:
        value = parse_json(read_bytes(path, LARGEST_JSON))
        wrong = misfit(value, shape)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:
        wrong = getattr(error, "strerror", None) or str(error)
    if wrong:
        raise DamagedFile(f"{path} is not {what} ({wrong}).")
    return dict(value)


def read_facts(path: Path, shape: Any) -> dict[str, Any]:
    """What can be used of a bookkeeping file, a TypedDict without required keys; empty if there is no file.

    What cannot be used is warned of and left out: the file, or those of its keys that have another shape.
    """
    try:
        facts = load_object(path, dict, "what this program writes") or {}
    except DamagedFile as error:
        warn(f"{str(error).removesuffix('.')}: it is not used.")
        return {}
    wrong = misfits(facts, shape)
    if wrong:
        warn(f"{path} is damaged ({', '.join(wrong.values())}): what is wrong in it is not used.")
    return {key: value for key, value in facts.items() if key not in wrong}


def read_cache(path: Path) -> dict[str, Any]:
    """The object in a file that only saves time; empty if there is none or it cannot be read."""
    try:
        return load_object(path, dict, "a cache") or {}
    except DamagedFile:
        return {}

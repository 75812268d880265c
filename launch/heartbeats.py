"""Who trains a run, told at one look at its lock."""

import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from sparse_rnn.core.files import write_json
from sparse_rnn.core.lock import DAMAGED, STALE_SECONDS, lives, read_holder
from sparse_rnn.core.reading import read_cache


def living_holder(lock: Path) -> dict[str, Any] | None:
    """The holder of a run's lock; None if there is none, or if it seems to be gone.

    One of another host seems to live unless its heartbeat was the same when this host looked STALE_SECONDS ago. Where
    that is wrong, a run is sent a few minutes late, or its job finds it locked and leaves it alone.
    """
    try:
        holder = read_holder(lock)
    except OSError:  # of a lock that may not be read
        return None
    if holder is None or holder == DAMAGED:
        return None
    alive = lives(holder)
    return holder if alive or (alive is None and _has_moved(holder, lock.parent)) else None


def _has_moved(holder: dict[str, Any], folder: Path) -> bool:
    """Whether a heartbeat has moved since an earlier look that is long enough ago, if there was one."""
    # Both times are of this host's clock. The holder's, which may be minutes off, is compared with itself only.
    memory, now = folder.parent / ".launch" / f"heartbeats-{socket.gethostname()}.json", time.time()
    looks, beat = read_cache(memory), [holder["token"], holder["heartbeat"]]
    match looks.get(folder.name):
        case [seen, int() | float() as when] if seen == beat:
            return abs(now - when) <= STALE_SECONDS
    with suppress(OSError):  # of a folder that may only be read
        memory.parent.mkdir(exist_ok=True)
        write_json(memory, looks | {folder.name: [beat, now]})
    return True

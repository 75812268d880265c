"""Locks as other processes leave them."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from run_helpers import wait_until

from sparse_rnn.core.errors import RunLocked
from sparse_rnn.core.lock import RunLock
from sparse_rnn.core.processes import process_namespace, process_start


def dead_pid() -> int:
    """A process that has been and is no more."""
    return int(subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout)


def leave_lock(path: Path, **changes: Any) -> None:
    """A lock as this very process would hold it, but for `changes`."""
    holder = {
        "token": "other",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": process_start(os.getpid()),
        "processes": process_namespace(),
        "slurm_job": "",
        "slurm_restart": 0,
        "heartbeat": int(time.time()),
    }
    path.write_text(json.dumps(holder | changes))


@contextmanager
def beating(path: Path, **changes: Any) -> Iterator[None]:
    """A lock whose heartbeat moves, as that of a host where it is another time."""
    done, beats = threading.Event(), int(changes.pop("heartbeat", time.time()))

    def beat() -> None:
        nonlocal beats
        while not done.wait(0.05):
            beats += 1
            leave_lock(path.with_name("next"), **changes, heartbeat=beats)
            path.with_name("next").replace(path)

    leave_lock(path, **changes, heartbeat=beats)
    thread = threading.Thread(target=beat)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


@contextmanager
def suspended_process() -> Iterator[int]:
    process = subprocess.Popen(["sleep", "100"])
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: " T " in Path(f"/proc/{process.pid}/stat").read_text())
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def taken_over(path: Path) -> bool:
    """Whether the lock that lies there is replaced; it leaves nothing behind either way."""
    try:
        with RunLock(path):
            assert json.loads(path.read_text())["pid"] == os.getpid()
    except RunLocked:
        assert [each.name for each in path.parent.iterdir()] == [path.name]
        return False
    assert list(path.parent.iterdir()) == []
    return True

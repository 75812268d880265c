"""One process per run: a lock file that works without flock, and so on shared file systems too."""

import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sparse_rnn.core.errors import RunLocked

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 120.0
DAMAGED = {  # stands for a lock that cannot be read: its heartbeat makes it stale
    "token": "damaged",
    "host": "",
    "pid": 0,
    "started": "",
    "processes": "",
    "heartbeat": 0.0,
    "slurm_job": "",
    "slurm_restart": 0,
}


class RunLock:
    """Holds the file `path` while the context lasts; it names host, process, SLURM job and time of the last heartbeat.

    A lock is stale if its process is gone from this host, if its heartbeat stopped more than STALE_SECONDS ago, or if
    this process belongs to the SLURM job that made it and SLURM has requeued the job since. A stale lock is taken over;
    any other raises RunLocked. If this process was suspended for so long that another one took over, `on_loss` is
    called; by default it ends the process at once, so that nothing of the other process is overwritten.
    """

    def __init__(self, path: Path, on_loss: Callable[[], None] | None = None) -> None:
        self.path, self.on_loss = path, on_loss or end_process
        self._token = uuid.uuid4().hex
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        self._take(self.path)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()
        if self._token_in(self.path) == self._token:
            self.path.unlink(missing_ok=True)

    def _describe(self) -> dict[str, Any]:
        return {
            "token": self._token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": process_start(os.getpid()),
            "processes": process_namespace(),
            "slurm_job": os.environ.get("SLURM_JOB_ID", ""),
            "slurm_restart": slurm_restart(),
            "heartbeat": time.time(),
        }

    def _take(self, path: Path) -> None:
        """Make `path` ours; raises RunLocked if its holder is alive.

        A stale lock is replaced by the process that holds its succession: a second lock, named after the stale token.
        """
        while not self._create(path):
            holder = read_holder(path)
            if holder is None:
                continue
            if not is_stale(holder):
                raise RunLocked(refusal(holder))
            # Two processes may both find the lock stale, and the slower would replace the new lock of the faster.
            # So each first takes the succession, in this same way, since its holder may die and leave it stale too.
            succession = path.with_name(f".{path.name}.{holder['token']}")
            self._take(succession)
            try:
                # Another heir may have come and gone between our look at the lock and our turn: then we start again.
                if self._token_in(path) == holder["token"]:
                    self._replace(path)
                    return
            finally:
                succession.unlink(missing_ok=True)

    def _create(self, path: Path) -> bool:
        """Link a complete draft to `path`, so that no reader sees half a lock; False if `path` is there already."""
        draft = self._draft()
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True

    def _replace(self, path: Path) -> None:
        self._draft().replace(path)

    def _draft(self) -> Path:
        draft = self.path.with_name(f".{self.path.name}.{self._token}.draft")
        try:
            draft.write_text(json.dumps(self._describe()))
        except OSError:
            draft.unlink(missing_ok=True)
            raise
        return draft

    def _token_in(self, path: Path) -> str | None:
        holder = read_holder(path)
        return None if holder is None else holder["token"]

    def _beat(self) -> None:
        while not self._done.wait(HEARTBEAT_SECONDS):
            try:
                if self._token_in(self.path) != self._token:
                    self.on_loss()
                    return
                self._replace(self.path)
            except OSError:
                continue


def read_holder(path: Path) -> dict[str, Any] | None:
    """The holder that a lock file describes, DAMAGED if it cannot be read, None if there is no file."""
    try:
        holder = json.loads(path.read_text(errors="replace"))
    except FileNotFoundError:
        return None
    except ValueError:
        return dict(DAMAGED)
    return holder if isinstance(holder, dict) and holder.keys() >= DAMAGED.keys() else dict(DAMAGED)


def refusal(holder: dict[str, Any]) -> str:
    """The error's sentence: who holds the lock."""
    job = f", SLURM job {holder['slurm_job']}" if holder["slurm_job"] else ""
    silent = max(0.0, time.time() - holder["heartbeat"])
    return (
        f"Another process is training this run (host {holder['host']}, process {holder['pid']}{job}, last sign of life "
        f"{silent:.0f} s ago): wait for it or end it; a dead one is replaced after {STALE_SECONDS:.0f} s."
    )


def end_process() -> None:
    """End this process at once, without writing anything more to the run."""
    print("error: Another process has taken over this run.", file=sys.stderr, flush=True)
    os._exit(RunLocked.exit_code)


def is_stale(holder: dict[str, Any]) -> bool:
    """Whether the holder described by a lock file is gone."""
    if time.time() - holder["heartbeat"] > STALE_SECONDS:
        return True
    job = os.environ.get("SLURM_JOB_ID", "")
    if job and holder["slurm_job"] == job and slurm_restart() > holder["slurm_restart"]:
        return True
    here = holder["host"] == socket.gethostname() and holder["processes"] == process_namespace()
    return here and bool(process_start(holder["pid"]) != holder["started"])


def slurm_restart() -> int:
    """How often SLURM has requeued the job that this process belongs to."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))


def process_namespace() -> str:
    """The set of processes visible from here, by name: two containers may share a host name, but not this."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def process_start(pid: int) -> str:
    """When a process of this host started, as text; empty if it is gone. Tells processes apart that reuse a pid."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return _alive_without_proc(pid)
    state, *others = status.rpartition(")")[2].split()
    return "" if state == "Z" else others[18]


def _alive_without_proc(pid: int) -> str:
    if Path("/proc/self").exists():
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        return "alive"
    return "alive"

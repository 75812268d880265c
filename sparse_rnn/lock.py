"""One process a run: a lock file that needs no flock, so that it holds on shared file systems."""

import json
import os
import socket
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 120.0


class RunLocked(RuntimeError):
    """Another process works on the run."""


class RunLock:
    """Holds `path` while a run goes on; the file names host, process, SLURM job and the time of the last heartbeat.

    A lock is stale if its process is gone from this host, if it is of the SLURM job we are (a requeued job), or if
    its heartbeat stopped STALE_SECONDS ago; then it is taken over. Raises RunLocked otherwise. If the lock is lost,
    because this process was suspended for so long that another took over, `on_loss` is called; by default it ends
    the process at once, so that nothing of the other's is overwritten.
    """

    def __init__(self, path: Path, on_loss: Callable[[], None] | None = None) -> None:
        self.path, self.on_loss = path, on_loss or end_process
        self._token = uuid.uuid4().hex
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, daemon=True)

    def __enter__(self) -> Self:
        while not self._create():
            holder = self._read(self.path)
            if holder is not None and not is_stale(holder):
                raise RunLocked(
                    f"Another process works on this run (host {holder.get('host')}, process {holder.get('pid')}"
                    f"{', SLURM job ' + holder['slurm_job'] if holder.get('slurm_job') else ''}, last sign of life "
                    f"{max(0, time.time() - holder['heartbeat']):.0f} s ago): wait for it or end it; a dead one is "
                    f"replaced after {STALE_SECONDS:.0f} s."
                )
            self._remove_stale(holder)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self._done.set()
        self._thread.join()
        if self._is_ours():
            self.path.unlink(missing_ok=True)

    def _describe(self) -> dict[str, Any]:
        return {
            "token": self._token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": process_start(os.getpid()),
            "slurm_job": os.environ.get("SLURM_JOB_ID", ""),
            "heartbeat": time.time(),
        }

    def _write(self, path: Path) -> None:
        path.write_text(json.dumps(self._describe()))

    def _create(self) -> bool:
        """Make the lock complete under another name, then link it: no reader ever sees half a lock."""
        draft = self.path.with_name(f".{self.path.name}.{self._token}")
        self._write(draft)
        try:
            os.link(draft, self.path)
        except FileExistsError:
            return False
        finally:
            draft.unlink()
        return True

    def _remove_stale(self, judged: dict[str, Any] | None) -> None:
        """Move the stale lock away; if it turns out to be another's fresh one, put it back."""
        moved = self.path.with_name(f".{self.path.name}.{self._token}.stale")
        try:
            self.path.rename(moved)
        except FileNotFoundError:
            return
        found = self._read(moved)
        if found is not None and (judged is None or found["token"] != judged["token"]):
            with suppress(FileExistsError):
                os.link(moved, self.path)
        moved.unlink()

    @staticmethod
    def _read(path: Path) -> dict[str, Any] | None:
        try:
            holder = json.loads(path.read_text())
            return holder if isinstance(holder, dict) and "heartbeat" in holder else None
        except (FileNotFoundError, ValueError):
            return None

    def _is_ours(self) -> bool:
        holder = self._read(self.path)
        return holder is not None and holder["token"] == self._token

    def _beat(self) -> None:
        while not self._done.wait(HEARTBEAT_SECONDS):
            try:
                if not self._is_ours():
                    self.on_loss()
                    return
                draft = self.path.with_name(f".{self.path.name}.{self._token}.beat")
                self._write(draft)
                draft.replace(self.path)
            except OSError:
                continue


def end_process() -> None:
    """End this process without another write."""
    print("error: Another process has taken over this run.", file=sys.stderr, flush=True)
    os._exit(1)


def is_stale(holder: dict[str, Any]) -> bool:
    """Whether the holder described by a lock file is gone."""
    if time.time() - holder["heartbeat"] > STALE_SECONDS:
        return True
    job = os.environ.get("SLURM_JOB_ID", "")
    here = bool(holder["host"] == socket.gethostname())
    if here:
        return bool(process_start(holder["pid"]) != holder["started"])
    return bool(job and holder.get("slurm_job") == job)


def process_start(pid: int) -> str:
    """When a process of this host started, as text; empty if it is gone. It tells apart processes of the same pid."""
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

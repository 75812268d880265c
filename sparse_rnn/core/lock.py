"""One process per run: a lock file that works without flock and hard links, and so on shared file systems too.

No clock is compared with another: two hosts may disagree by minutes. A holder of this host is looked up; of any other,
only a heartbeat that moves shows that it lives.
"""

import errno
import json
import os
import select
import socket
import stat
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sparse_rnn.core.errors import RunLocked
from sparse_rnn.core.processes import is_suspended, process_namespace, process_start

HEARTBEAT_SECONDS = 10.0
STALE_SECONDS = 120.0
DAMAGED_SECONDS = 2.0  # for which a lock that cannot be read must stand: one that is just being written soon can
LOOK_SECONDS = 0.5
SETTLE_SECONDS = 0.5  # far longer than another process needs from its last look at a stale lock to its own take-over
TEN_DIGITS = 1_000_000_000  # heartbeats are all as long, so that no reader sees half of one
LONGEST = 65_536  # bytes that are read of a lock
DAMAGED = {  # stands for a lock that cannot be read
    "token": "damaged",
    "host": "",
    "pid": 0,
    "started": "",
    "processes": "",
    "heartbeat": 0,
    "slurm_job": "",
    "slurm_restart": 0,
}

_held: "dict[Path, RunLock]" = {}  # by folder
unfinished: set[Path] = set()  # drafts that this process writes: it leaves none behind when it ends here


class RunLock:
    """Holds the file `path` while the context lasts; it names host, process and SLURM job, and its heartbeat moves.

    A lock is stale if its process is gone from this host, if its heartbeat has stood still for STALE_SECONDS while
    this process looked on, or if this process belongs to the SLURM job that made it and SLURM has requeued the job
    since. A stale lock is taken over; any other raises RunLocked. `on_wait` is told what is waited for. If another
    process has taken over, because this one was suspended or cut off, `on_loss` is called before anything more is
    written (see `confirm_lock`); by default it ends the process at once.
    """

    def __init__(
        self, path: Path, on_loss: Callable[[], None] | None = None, on_wait: Callable[[str], None] | None = None
    ) -> None:
        self.path, self.on_loss, self._on_wait = path, on_loss or end_process, on_wait or (lambda sentence: None)
        self._token, self._heartbeat = (
            uuid.uuid4().hex,
            max(TEN_DIGITS, int(time.time())),
        )  # a time only for people who read it
        self._seen: dict[str, Any] | None = None
        self._still = 0.0

    def __enter__(self) -> Self:
        while not self.take():
            pass
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.release()

    def take(self) -> bool:
        """Make the lock ours if nobody holds it; False, after LOOK_SECONDS, if that cannot be told yet.

        Raises RunLocked, and OSError if the folder cannot be used.
        """
        if not self._create(self.path):
            holder = read_holder(self.path)
            if holder is None or not self._is_stale(holder):
                return False
            self._take_over(holder)
        # Who has prepared to take over a lock that was here before, and comes too late, finds its draft gone.
        for draft in self.path.parent.glob(f".{self.path.name}.*.tmp"):
            draft.unlink(missing_ok=True)
        if not self._is_ours():
            return False
        self._begin()
        return True

    def release(self) -> None:
        """Remove the lock, unless another process has taken it over."""
        _held.pop(self.path.parent.absolute(), None)
        os.write(self._end[1], b".")
        self._thread.join()
        for descriptor in self._end:
            os.close(descriptor)
        with suppress(OSError):
            if self._is_ours():
                self.path.unlink()

    def confirm(self) -> None:
        """Call `on_loss` if the lock is not ours any more. Raises OSError."""
        if not self._is_ours():
            self.on_loss()

    def _is_ours(self) -> bool:
        holder = read_holder(self.path)
        return holder is not None and holder["token"] == self._token

    def _is_stale(self, holder: dict[str, Any]) -> bool:
        """Whether the holder is gone; False, after LOOK_SECONDS, while that cannot be told. Raises RunLocked."""
        alive = lives(holder)
        if alive is None and self._seen not in (None, holder) and holder != DAMAGED:
            alive = True
        if alive:
            raise RunLocked(refusal(holder))
        if alive is False:
            return True
        if holder != self._seen:
            self._seen, self._still = holder, 0.0
            self._on_wait(f"{self.path} is damaged: it is replaced." if holder == DAMAGED else expectation(holder))
        # Looks are counted, not seconds: if this process was suspended, so perhaps was the holder.
        if self._still >= (DAMAGED_SECONDS if holder == DAMAGED else STALE_SECONDS):
            return True
        pause(LOOK_SECONDS)
        self._still += LOOK_SECONDS
        return False

    def _take_over(self, stale: dict[str, Any]) -> None:
        """Put our lock in a stale one's place, if no other process was faster."""
        draft = self.path.with_name(f".{self.path.name}.{self._token}.tmp")
        self._create(draft)
        try:
            if read_holder(self.path) == stale:
                with suppress(FileNotFoundError):
                    draft.replace(self.path)
        finally:
            draft.unlink(missing_ok=True)
        pause(SETTLE_SECONDS)  # of several processes that came so far at the same moment, the last one has it

    def _create(self, path: Path) -> bool:
        """Write our lock to a new file; False if there is something of that name."""
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:
            return False
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(self._text())
                stream.flush()
                os.fsync(descriptor)
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return True

    def _text(self) -> bytes:
        holder = {
            "token": self._token,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": process_start(os.getpid()),
            "processes": process_namespace(),
            "slurm_job": os.environ.get("SLURM_JOB_ID", ""),
            "slurm_restart": slurm_restart(),
            "heartbeat": self._heartbeat,
        }
        return json.dumps(holder).encode()

    def _begin(self) -> None:
        """Let the heart beat, and have every file of the folder written under this lock."""
        self._end = os.pipe()
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()
        _held[self.path.parent.absolute()] = self

    def _beat(self) -> None:
        end = select.poll()
        end.register(self._end[0], select.POLLIN)
        while not end.poll(1000 * HEARTBEAT_SECONDS):
            try:
                ours = self._renew()
            except OSError:
                continue
            if not ours:
                self.on_loss()
                return

    def _renew(self) -> bool:
        """Move the heartbeat; False if the lock is not ours any more. Raises OSError."""
        # It is moved within the very file whose token was read: one that has been replaced meanwhile is nobody's.
        with suppress(FileNotFoundError), _opened(self.path, os.O_RDWR) as descriptor:
            if descriptor is None or _holder_in(descriptor)["token"] != self._token:
                return False
            self._heartbeat = max(self._heartbeat + 1, int(time.time()))
            os.pwrite(descriptor, self._text(), 0)
            os.fsync(descriptor)
            return True
        return False


def confirm_lock(file: Path) -> None:
    """To be called just before a file is written: a process that has lost the lock of the file's run ends here.

    Nothing happens if this process has locked no folder that the file is in. Raises OSError.
    """
    for folder in file.absolute().parents:
        if lock := _held.get(folder):
            lock.confirm()


@contextmanager
def _opened(path: Path, access: int) -> Iterator[int | None]:
    """A descriptor of a lock; None if it is no plain file: a FIFO would block, and a link leads elsewhere."""
    try:
        descriptor = os.open(path, access | os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENXIO, errno.EISDIR):
            raise
        yield None
        return
    try:
        yield descriptor if stat.S_ISREG(os.fstat(descriptor).st_mode) else None
    finally:
        os.close(descriptor)


def read_holder(path: Path) -> dict[str, Any] | None:
    """The holder that a lock file describes, DAMAGED if it is no lock, None if there is no file. Raises OSError."""
    with suppress(FileNotFoundError, NotADirectoryError), _opened(path, os.O_RDONLY) as descriptor:
        return dict(DAMAGED) if descriptor is None else _holder_in(descriptor)
    return None


def _holder_in(descriptor: int) -> dict[str, Any]:
    try:
        found = json.loads(os.read(descriptor, LONGEST))
        holder = {key: found[key] for key in DAMAGED}
    except (ValueError, TypeError, KeyError, RecursionError):
        return dict(DAMAGED)
    words = [holder[key] for key, value in DAMAGED.items() if isinstance(value, str)]
    readable = all(isinstance(word, str) and word.isprintable() for word in words)  # they are printed
    whole = type(holder["pid"]) is type(holder["slurm_restart"]) is type(holder["heartbeat"]) is int
    return holder if readable and whole and holder["pid"] > 0 else dict(DAMAGED)


def refusal(holder: dict[str, Any]) -> str:
    """The error's sentence: who holds the lock."""
    return (
        f"Another process is training this run ({_named(holder)}): wait for it or end it; a dead one is replaced after "
        f"{STALE_SECONDS:.0f} s."
    )


def expectation(holder: dict[str, Any]) -> str:
    """What is waited for, as a sentence."""
    return (
        f"Another process has locked this run ({_named(holder)}): waiting to see whether it lives; a dead one is "
        f"replaced after {STALE_SECONDS:.0f} s."
    )


def _named(holder: dict[str, Any]) -> str:
    job = f", SLURM job {holder['slurm_job']}" if holder["slurm_job"] else ""
    return f"host {holder['host']}, process {holder['pid']}{job}"


def end_process() -> None:
    """End this process at once, without writing anything more to the run."""
    for draft in list(unfinished):
        draft.unlink(missing_ok=True)
    print("error: Another process has taken over this run.", file=sys.stderr, flush=True)
    os._exit(RunLocked.exit_code)


def pause(seconds: float) -> None:
    """Sleep for so long, whatever the clocks do: `time.sleep` and waiting for threads wait for a moment of a clock."""
    select.select([], [], [], seconds)


def lives(holder: dict[str, Any]) -> bool | None:
    """Whether the holder that a lock describes lives; None if only its heartbeat, as it moves or not, can tell."""
    job = os.environ.get("SLURM_JOB_ID", "")
    if job and holder["slurm_job"] == job and slurm_restart() > holder["slurm_restart"]:
        return False
    if (holder["host"], holder["processes"]) != (socket.gethostname(), process_namespace()):
        return None
    if process_start(holder["pid"]) != holder["started"]:
        return False
    return None if is_suspended(holder["pid"]) else True


def slurm_restart() -> int:
    """How often SLURM has requeued the job that this process belongs to."""
    return int(os.environ.get("SLURM_RESTART_COUNT", "0"))

"""Downloads that break off are resumed; of several at once, one downloads."""

import hashlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Self

import pytest
from filelock import FileLock
from local_mirror import ONE_EACH, TEXTS, TRAIN, WHOLE, Mirror, contents, part
from refusals import refusal

from sparse_rnn.data import download
from sparse_rnn.data.language.corpora import PTB


def test_an_interrupted_download_is_resumed(folder: Path, mirror: Mirror) -> None:
    mirror.cut["ptb.train.txt"] = len(TRAIN) // 2
    assert "the connection broke off" in refusal(PTB())
    kept = part(folder).stat().st_size
    assert 0 < kept <= len(TRAIN) // 2
    PTB().fetch()
    assert mirror.asked[1] == ("ptb.train.txt", f"bytes={kept}-")
    assert contents(folder) == WHOLE


def test_a_server_that_cannot_resume_sends_everything_again(folder: Path, mirror: Mirror) -> None:
    mirror.cut["ptb.train.txt"] = len(TRAIN) // 2
    refusal(PTB())
    mirror.understands_ranges = False
    PTB().fetch()
    assert contents(folder) == WHOLE


def test_a_download_that_lacked_only_its_last_step_is_used(folder: Path, mirror: Mirror) -> None:
    mirror.cut["ptb.train.txt"] = len(TRAIN) // 2
    refusal(PTB())
    part(folder).write_bytes(TRAIN)
    PTB().fetch()
    assert contents(folder) == WHOLE


@pytest.mark.parametrize("damage", [b"x" * 10, b"x" * 2 * len(TRAIN)], ids=["short", "long"])
def test_a_damaged_part_is_thrown_away(damage: bytes, folder: Path, mirror: Mirror) -> None:
    mirror.cut["ptb.train.txt"] = len(TRAIN) // 2
    refusal(PTB())
    part(folder).write_bytes(damage)
    assert "another SHA-256" in refusal(PTB())
    PTB().fetch()
    assert mirror.asked[-3:] == ONE_EACH
    assert contents(folder) == WHOLE


def test_of_two_threads_one_downloads(folder: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    arrived, both_at_the_lock = threading.Semaphore(0), threading.Event()

    class WatchedLock(FileLock):
        def __enter__(self) -> Self:
            arrived.release()
            return super().__enter__()

    monkeypatch.setattr(download, "FileLock", WatchedLock)
    mirror.before = lambda: both_at_the_lock.wait(10)
    with ThreadPoolExecutor(2) as pool:
        fetched = [pool.submit(PTB().fetch) for _ in range(2)]
        assert all(arrived.acquire(timeout=10) for _ in fetched)
        both_at_the_lock.set()
        assert fetched[0].result(10) == fetched[1].result(10)
    assert mirror.asked == ONE_EACH
    assert contents(folder) == WHOLE


FETCH = """
import sys
from pathlib import Path
from sparse_rnn.data.download import fetch, mirrored
names = {name.removeprefix("ptb."): (name, sha256) for name, sha256 in (pair.split("=") for pair in sys.argv[3:])}
print("asking", flush=True)
fetch(Path(sys.argv[1]), mirrored([sys.argv[2]], names), dataset="ptb")
"""


def fetching_process(folder: Path, mirror: Mirror) -> subprocess.Popen[str]:
    """A process that has just begun to fetch."""
    hashes = [f"{name}={hashlib.sha256(text).hexdigest()}" for name, text in TEXTS.items()]
    process = subprocess.Popen(
        [sys.executable, "-c", FETCH, str(folder), mirror.url, *hashes], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "asking\n"
    return process


def test_of_two_processes_one_downloads(folder: Path, mirror: Mirror) -> None:
    both_asking = threading.Event()
    mirror.before = lambda: both_asking.wait(30)
    with fetching_process(folder, mirror) as first, fetching_process(folder, mirror) as second:
        both_asking.set()
        assert (first.wait(30), second.wait(30)) == (0, 0)
    assert mirror.asked == ONE_EACH
    assert contents(folder) == WHOLE


def test_what_a_killed_process_has_fetched_is_resumed(folder: Path, mirror: Mirror) -> None:
    killed = threading.Event()
    mirror.cut["ptb.train.txt"] = len(TRAIN) // 2
    mirror.at_cut = lambda: killed.wait(30)
    with fetching_process(folder, mirror) as process:
        wait_until(lambda: part(folder).stat().st_size > 0)
        process.kill()
    killed.set()
    kept = part(folder).stat().st_size
    PTB().fetch()
    assert mirror.asked[1] == ("ptb.train.txt", f"bytes={kept}-")
    assert {name: (folder / name).read_bytes() for name in WHOLE} == WHOLE


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with suppress(OSError, ValueError):  # what is asked about is not there yet
            if condition():
                return
        time.sleep(0.01)
    raise AssertionError("the condition did not come about")

"""Fetching with the real pooch from a server on this machine."""

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Self

import pytest
from filelock import FileLock

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data import download
from sparse_rnn.data.language import corpora as datasets
from sparse_rnn.data.language.corpora import PTB

TEXTS = {
    f"ptb.{split}.txt": "".join(f" {split} word{i * i % 97} in line {i} \n" for i in range(4000)).encode()
    for split in ("train", "valid", "test")
}
TRAIN = TEXTS["ptb.train.txt"]


class Mirror(ThreadingHTTPServer):
    """Serves `texts` and keeps (file, Range header) of every request.

    cut: after how many bytes the connection breaks, once. before: called first in every answer. understands_ranges:
    whether a Range header is honoured.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.texts = dict(TEXTS)
        self.cut: dict[str, int] = {}
        self.asked: list[tuple[str, str | None]] = []
        self.before: Callable[[], object] = lambda: None
        self.at_cut: Callable[[], object] = lambda: None
        self.understands_ranges = True

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/data"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that has gone is part of the tests."""


class Answer(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        name, wanted = self.path.removeprefix("/data/"), self.headers["Range"]
        self.server.asked.append((name, wanted))
        self.server.before()
        if name not in self.server.texts:
            return self.send_error(404)
        text, start = self.server.texts[name], 0
        if wanted and self.server.understands_ranges:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
            if start >= len(text):
                return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(text) - 1}/{len(text)}")
        self.send_header("Content-Length", str(len(text) - start))
        self.end_headers()
        cut = self.server.cut.pop(name, None)
        self.wfile.write(text[start:cut])
        if cut is not None:
            self.server.at_cut()
        return None

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@contextmanager
def serving() -> Iterator[Mirror]:
    mirror = Mirror()
    thread = threading.Thread(target=mirror.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield mirror
    finally:
        mirror.shutdown()
        mirror.server_close()
        thread.join()


@pytest.fixture
def mirror() -> Iterator[Mirror]:
    with serving() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a Penn Treebank that is small and has `mirror` as its only source."""
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    files = {name.removeprefix("ptb."): (name, hashlib.sha256(text).hexdigest()) for name, text in TEXTS.items()}
    monkeypatch.setattr(datasets, "PTB_FILES", files)
    monkeypatch.setattr(datasets, "PTB_MIRRORS", (mirror.url,))
    return tmp_path / "data" / "ptb"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".download.lock"}


WHOLE = {name.removeprefix("ptb."): text for name, text in TEXTS.items()}
ONE_EACH = [(name, None) for name in TEXTS]


def refusal() -> str:
    with pytest.raises(ConfigError) as caught:
        PTB().fetch()
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    return sentence


def test_fetches_once_and_loads(mirror: Mirror, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    paths = PTB().fetch()
    assert paths == {name: folder / name for name in ("train.txt", "valid.txt", "test.txt")}
    assert contents(folder) == WHOLE
    corpus = PTB().load()
    assert {split: tokens.numel() for split, tokens in corpus.splits.items()} == dict.fromkeys(corpus.splits, 6 * 4000)
    assert mirror.asked == ONE_EACH
    assert capfd.readouterr() == ("", "")


def test_files_already_there_need_no_network(folder: Path, mirror: Mirror) -> None:
    folder.mkdir(parents=True)
    for name, text in WHOLE.items():
        (folder / name).write_bytes(text)
    PTB().load()
    assert mirror.asked == []
    assert contents(folder) == WHOLE
    (folder / "valid.txt").unlink()
    PTB().fetch()
    assert mirror.asked == [("ptb.valid.txt", None)]


def test_shows_a_bar_on_a_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    PTB().fetch()
    out, err = capsys.readouterr()
    assert out == ""
    for name, text in WHOLE.items():
        assert name in err
        assert f"{len(text) / 1000:.1f}" in err


def test_a_file_already_there_with_other_content_is_refused_and_left_alone(folder: Path, mirror: Mirror) -> None:
    folder.mkdir(parents=True)
    (folder / "valid.txt").write_text("my notes\n")
    sentence = refusal()
    assert str(folder / "valid.txt") in sentence
    assert "remove it" in sentence
    assert contents(folder) == {"valid.txt": b"my notes\n"}
    assert mirror.asked == []


def test_a_folder_in_the_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / "valid.txt").mkdir(parents=True)
    assert str(folder / "valid.txt") in refusal()


def test_wrong_content_is_not_kept(folder: Path, mirror: Mirror) -> None:
    mirror.texts["ptb.train.txt"] = b"<html>Please log in to this network</html>"
    assert "the file that came has another SHA-256" in refusal()
    assert contents(folder) == {}


def test_a_short_file_is_not_kept(folder: Path, mirror: Mirror) -> None:
    mirror.texts["ptb.valid.txt"] = TEXTS["ptb.valid.txt"][:-1]
    sentence = refusal()
    assert "the file that came has another SHA-256" in sentence
    assert "train.txt" not in sentence, "only what is missing is asked for"
    assert contents(folder) == {"train.txt": TRAIN}


def test_without_any_mirror_says_where_to_put_what(
    folder: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, other = closed_address(), mirror.url + "/nothing"
    monkeypatch.setattr(datasets, "PTB_MIRRORS", (closed, other))
    sentence = refusal()
    assert "(no connection; the server answered 404)" in sentence
    for name in WHOLE:
        assert f"{name} (from {closed}/ptb.{name})" in sentence
    assert f"into {folder}, or use dataset=pydoc, which needs nothing" in sentence


@pytest.mark.parametrize("failure", ["404", "closed", "silent", "wrong", "broken off"])
def test_the_second_mirror_is_used_when_the_first_fails(
    failure: str, folder: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    with serving() as first:
        url = first.url
        if failure == "404":
            first.texts = {}
        elif failure == "closed":
            url = closed_address()
        elif failure == "silent":
            monkeypatch.setattr(download, "TIMEOUT", (0.2, 0.2))
            first.before = lambda: released.wait(10)
        elif failure == "wrong":
            first.texts = dict.fromkeys(TEXTS, b"something else")
        else:
            first.cut = dict.fromkeys(TEXTS, len(TRAIN) // 2)
        monkeypatch.setattr(datasets, "PTB_MIRRORS", (url, mirror.url))
        PTB().fetch()
        released.set()
    assert mirror.asked == ONE_EACH, "nothing is resumed from what another mirror sent"
    assert len(first.asked) == (0 if failure == "closed" else 3)
    assert contents(folder) == WHOLE


def test_an_interrupted_download_is_resumed(folder: Path, mirror: Mirror) -> None:
    mirror.cut["ptb.train.txt"] = len(TRAIN) // 2
    assert "the connection broke off" in refusal()
    kept = part(folder).stat().st_size
    assert 0 < kept <= len(TRAIN) // 2
    PTB().fetch()
    assert mirror.asked[1] == ("ptb.train.txt", f"bytes={kept}-")
    assert contents(folder) == WHOLE


def test_a_server_that_cannot_resume_sends_everything_again(folder: Path, mirror: Mirror) -> None:
    mirror.cut["ptb.train.txt"] = len(TRAIN) // 2
    refusal()
    mirror.understands_ranges = False
    PTB().fetch()
    assert contents(folder) == WHOLE


def test_a_download_that_lacked_only_its_last_step_is_used(folder: Path, mirror: Mirror) -> None:
    mirror.cut["ptb.train.txt"] = len(TRAIN) // 2
    refusal()
    part(folder).write_bytes(TRAIN)
    PTB().fetch()
    assert contents(folder) == WHOLE


@pytest.mark.parametrize("damage", [b"x" * 10, b"x" * 2 * len(TRAIN)], ids=["short", "long"])
def test_a_damaged_part_is_thrown_away(damage: bytes, folder: Path, mirror: Mirror) -> None:
    mirror.cut["ptb.train.txt"] = len(TRAIN) // 2
    refusal()
    part(folder).write_bytes(damage)
    assert "another SHA-256" in refusal()
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


def test_what_a_killed_process_has_fetched_is_gone_on_with(folder: Path, mirror: Mirror) -> None:
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


def test_a_data_folder_under_a_file_is_named(folder: Path, mirror: Mirror) -> None:
    folder.parent.write_text("not a folder")
    sentence = refusal()
    assert f"The data folder {folder} cannot be used: Not a directory." in sentence
    assert mirror.asked == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_data_folder_is_named(folder: Path, mirror: Mirror) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o555)
    try:
        assert f"The data folder {folder} cannot be used: Permission denied." in refusal()
    finally:
        folder.chmod(0o755)
    assert mirror.asked == []


def test_a_full_disk_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: download.ResumingDownloader, *args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download.ResumingDownloader, "_save", full)
    assert refusal() == f"The data folder {folder} cannot be used: No space left on device."


def part(folder: Path) -> Path:
    """Where the interrupted download of the first file waits."""
    (path,) = folder.glob(".train.txt.*.part")
    return path


def closed_address() -> str:
    with serving() as gone:
        return gone.url


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with suppress(OSError, ValueError):  # what is asked about is not there yet
            if condition():
                return
        time.sleep(0.01)
    raise AssertionError("the condition did not come about")

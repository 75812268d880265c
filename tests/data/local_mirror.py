"""A server on this machine with a small Penn Treebank, and what a folder holds of it."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from loopback import served

TEXTS = {
    f"ptb.{split}.txt": "".join(f" {split} word{i * i % 97} in line {i} \n" for i in range(4000)).encode()
    for split in ("train", "valid", "test")
}
TRAIN = TEXTS["ptb.train.txt"]
WHOLE = {name.removeprefix("ptb."): text for name, text in TEXTS.items()}
ONE_EACH = [(name, None) for name in TEXTS]


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
        """Keep the output of the tests clean."""


def serving() -> AbstractContextManager[Mirror]:
    return served(Mirror())


def closed_address() -> str:
    """An address of this machine where no server listens any more."""
    with serving() as gone:
        return gone.url


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a data folder, without the lock of the download."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".download.lock"}


def part(folder: Path) -> Path:
    """Where the interrupted download of the first file waits."""
    (path,) = folder.glob(".train.txt.*.part")
    return path

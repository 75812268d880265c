"""Chromium without a window, for the tests of the page of results and of the documentation (make test-browser)."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SECONDS = 120


class Chromium:
    """A browser that remembers nothing, without network but for servers at 127.0.0.1, whose pages are addresses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "network.json"

    def command(self, page: Path | str, *options: str) -> list[str]:
        """The words that open a page."""
        return [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"),
            *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
            *("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--enable-logging=stderr"),
            *(f"--user-data-dir={self.folder / 'profile'}", f"--log-net-log={self.log}", *options),
            page.as_uri() if isinstance(page, Path) else page,
        ]

    def run(self, page: Path | str, *options: str) -> subprocess.CompletedProcess[str]:
        """Open a page and wait until it has nothing left to do."""
        command = self.command(page, "--virtual-time-budget=10000", *options)
        done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
        assert done.returncode == 0, done.stderr
        return done

    @contextmanager
    def opened(self, page: Path | str) -> Iterator[None]:
        """A page that stays open, in the time of this machine."""
        command = self.command(page, "--remote-debugging-port=0")
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            try:
                yield
            finally:
                process.terminate()

    def dom(self, page: Path, script: str = "", query: str = "") -> str:
        """The page as HTML after a script has run in it."""
        copy = self.folder / "copy.html"
        copy.write_text(page.read_text(encoding="utf-8") + f"<script>{script}</script>", encoding="utf-8")
        return self.run(f"{copy.as_uri()}{query}", "--dump-dom").stdout

    def ask(self, page: Path, expression: str, query: str = "") -> str:
        """What an expression of the page's own JavaScript says, as text; a promise is waited for."""
        script = f"(async () => {{ document.body.dataset.answer = String(await ({expression})); }})();"
        found = re.search(r'<body[^>]* data-answer="([^"]*)"', self.dom(page, script, query))
        assert found, f"{expression} raised an error"
        return found[1]

    def complaints(self, page: Path | str) -> list[str]:
        """What the page wrote to the console, and what it asked the network for; the browser's own requests aside."""
        lines = self.run(page, "--dump-dom").stderr.splitlines()
        events = json.loads(self.log.read_text(encoding="utf-8"))["events"]
        requests = [event["params"] for event in events if "initiator" in event.get("params", {})]
        asked = [request["url"] for request in requests if request["initiator"] != "not an origin"]
        return [*(line for line in lines if ":CONSOLE" in line), *asked]

    def screenshot(self, page: Path | str, name: str, width: int, height: int, *options: str) -> Path:
        """A picture of the page's upper end."""
        path = self.folder / f"{name}.png"
        self.run(page, f"--window-size={width},{height}", f"--screenshot={path}", *options)
        return path


@pytest.fixture
def chromium(tmp_path: Path) -> Chromium:
    """The browser, with a folder of this test for all that it writes."""
    if shutil.which("chromium") is None:
        pytest.fail("chromium is not installed: make test-browser installs it")
    return Chromium(tmp_path)

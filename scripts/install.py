"""Make a virtual environment and install this checkout into it, saying what goes on: python scripts/install.py --help.

Needs nothing but Python, because it runs before anything is installed.
"""

import argparse
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from typing import TextIO

ROOT = Path(__file__).parents[1]
# What pip says, and how that is shown.
SAID = {
    re.compile(r"(?:Collecting|Obtaining) (\S+)"): "looking for {}",
    re.compile(r" *Downloading (\S+?)-[\d.]+\S* \((.*)\)"): "downloading {} ({})",
    re.compile(r"Processing .*?([^/]+?)-[\d.]+[^/]*\.whl"): "reading {}",
    re.compile(r" *Building wheel for (\S+)"): "building {}",
}
INSTALLING = "Installing collected packages: "
TICK = 0.5  # seconds


class Progress:
    """One line for each step; on a terminal also what the step is at, and for how long."""

    def __init__(self, stream: TextIO, steps: int) -> None:
        self.stream, self.steps, self.begun = stream, steps, time.monotonic()
        self.number, self.title = 0, ""
        self.live = stream.isatty()

    def step(self, title: str) -> None:
        """Begin the next step."""
        self._print(f"{self._label(title)}\n")
        self.number, self.title = self.number + 1, title

    def at(self, what: str) -> None:
        """Say what the step is at."""
        if self.live:
            self._print(f"{self._seconds()}  {what}"[:78])

    def end(self) -> None:
        """Say how long everything took."""
        self._print(f"set-up done in {self._seconds().strip()}\n")

    def _label(self, title: str) -> str:
        return f"set-up {self.number + 1}/{self.steps} {self._seconds()}  {title}"

    def _seconds(self) -> str:
        return f"{time.monotonic() - self.begun:4.0f} s"

    def _print(self, text: str) -> None:
        self.stream.write(f"\r\x1b[K{text}" if self.live else text)
        self.stream.flush()


def main() -> None:
    """Entry point."""
    parser = argparse.ArgumentParser(description="Install this checkout into a virtual environment.")
    parser.add_argument("folder", type=Path, help="where the environment is made, such as .venv")
    parser.add_argument("extras", help="extras to install, such as experiments,dev")
    parser.add_argument("--system-torch", action="store_true", help="keep the torch of this Python")
    asked = parser.parse_args()
    progress = Progress(sys.stderr, steps=3)
    making = "adding to" if asked.folder.exists() else "making"
    progress.step(f"{making} {asked.folder} with {sys.executable}")
    site = ["--system-site-packages"] if asked.system_torch else []
    subprocess.run([sys.executable, "-m", "venv", *site, str(asked.folder)], check=True)
    progress.step("choosing and downloading packages (torch is the largest)")
    install(asked.folder, asked.extras, asked.system_torch, progress)
    progress.end()


def install(folder: Path, extras: str, system_torch: bool, progress: Progress) -> None:
    """Install the checkout with these extras, in the versions of constraints.txt; if pip fails, exit with its words."""
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{pin}\n" for pin in pins if not (system_torch and pin.startswith("torch=="))))
    # Without compiling: Python compiles at first import what is used, and that is a fraction of it.
    options = ["--disable-pip-version-check", "--progress-bar", "off", "--no-color", "--no-compile"]
    python = str(folder / "bin" / "python")
    command = [python, "-m", "pip", "install", *options, "-c", str(constraints), "-e", f"{ROOT}[{extras}]"]
    said: list[str] = []
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    pip = subprocess.Popen(command, stdout=pipe, stderr=both, encoding="utf-8", errors="replace")
    what = ""
    for line in lines_of(pip):
        if line:
            said.append(line)
            what = in_words(line) or what
        if line.startswith(INSTALLING):
            progress.step(what)
        progress.at(what)
    if pip.wait():
        sys.exit(f"error: the set-up failed, and pip said:\n{''.join(said[-40:])}")


def lines_of(process: "subprocess.Popen[str]") -> Iterator[str]:
    """The lines that a process prints, as they come; an empty one whenever none has come for a while."""
    assert process.stdout is not None
    stdout, lines = process.stdout, Queue[str]()

    def read() -> None:
        for line in stdout:
            lines.put(line)
        lines.put("")

    reader = Thread(target=read, daemon=True)
    reader.start()
    while reader.is_alive() or not lines.empty():
        try:
            yield lines.get(timeout=TICK)
        except Empty:
            yield ""


def in_words(line: str) -> str:
    """What a line of pip's says, in words; empty for one that says nothing new."""
    if line.startswith(INSTALLING):
        return f"installing {line.count(',') + 1} packages"
    for pattern, words in SAID.items():
        if found := pattern.match(line):
            return words.format(*found.groups())
    return ""


if __name__ == "__main__":
    main()

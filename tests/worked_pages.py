"""The pages "Add a ..." of docs, followed: their files are written and their commands run, inside a checkout or not."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ADDITIONS = ("add-a-growth-rule.md", "add-a-model.md", "add-a-dataset.md", "add-a-table.md")
OUTSIDE = "## Outside the checkout\n"
LAB = "~/lab/"
FENCE = re.compile(
    r'^```(?P<language>\w+)(?: title="(?P<path>[^"]+)"(?: (?P<append>append)| above="(?P<above>[^"]+)")?)?\n'
    r"(?P<text>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
LEFT_OUT = ("__pycache__", "test_additions.py")  # which would copy the copy
NUMBER = re.compile(r"-[0-9a-f]{8}\b|\d[\d,.]*")


def parts(page: str) -> tuple[str, str]:
    """What a page says of the checkout, and what of places outside of it."""
    before, outside, after = (ROOT / "docs" / page).read_text(encoding="utf-8").partition(OUTSIDE)
    section, heading, rest = after.partition("\n\n## ")  # a table that is printed has such a line too
    return before + heading + rest, outside + section


def copy_project(folder: Path, *more: str) -> Path:
    """A copy of what the pages extend, and of `more` besides."""
    for name in ("sparse_rnn", "conf", "docs", "tests", "README.md", "pyproject.toml", *more):
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns(*LEFT_OUT))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    return folder


def follow(page: str, project: Path) -> None:
    """Do what a page says of the checkout: what it shows must be what is printed, its files must pass ruff."""
    shell = Shell(project, project)
    for block in FENCE.finditer(parts(page)[0]):
        if block["path"]:
            write(project / block["path"], block["text"], append=bool(block["append"]))
            if block["language"] == "python":
                shell.run(f"python -m ruff check {block['path']}")
                shell.run(f"python -m ruff format --check {block['path']}")
        elif block["language"] == "console":
            shell.follow(block["text"])


def write_files(page: str, project: Path) -> None:
    """Write the files that a page adds to the checkout, without its commands."""
    for block in FENCE.finditer(parts(page)[0]):
        if block["path"]:
            write(project / block["path"], block["text"], append=bool(block["append"]))


def follow_outside(page: str, home: Path, package: Path) -> None:
    """Do what a page says of other places, in the home folder `home`, with a package that lies in `package`."""
    shell = Shell(home, package)
    for path, text in outside_files(page).items():
        write(home / "lab" / path, text, append=False)
    for block in FENCE.finditer(parts(page)[1]):
        if block["language"] == "console":
            shell.follow(block["text"])


def outside_files(page: str) -> dict[str, str]:
    """The files of the page above that part in their places below ~/lab, by these: modules beside, YAML in conf.

    A module that is named there has its imports there, and above the last class that the checkout appends to a file;
    then only the files count that follow that class.
    """
    above, outside = (ROOT / "docs" / page).read_text(encoding="utf-8").split(OUTSIDE)
    inside = list(FENCE.finditer(above))
    own = next((block for block in FENCE.finditer(outside) if block["above"]), None)
    first = 0 if own is None else max(k for k, block in enumerate(inside) if block["path"] == own["above"])
    found = {}
    for block in inside[first:]:
        path = block["path"] or ""
        if own is not None and path == own["above"]:
            found[own["path"].removeprefix(LAB)] = f"{own['text']}\n\n{block['text']}"
        elif path.startswith("conf/"):
            found[path] = block["text"]
        elif path.startswith("sparse_rnn/"):
            found[Path(path).name] = block["text"]
    return found


def write(path: Path, text: str, *, append: bool) -> None:
    """A file that is there already must be meant to be, and the other way round."""
    assert path.exists() == append, path
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{path.read_text()}\n\n{text}" if append else text, encoding="utf-8")


class Shell:
    """Runs the commands of a page in the folder `home`, with the package that lies in the folder `package`.

    programs: the folder of an installed `python` and `sparse-rnn`, in place of those of the package.
    """

    def __init__(self, home: Path, package: Path | None, programs: Path | None = None) -> None:
        self._home, self._folder = home, home
        self._programs = {"python": [sys.executable], "sparse-rnn": [sys.executable, "-m", "sparse_rnn"]}
        if programs:
            self._programs = {name: [str(programs / name)] for name in self._programs}
        self._variables = {
            **os.environ,
            "PYTHONPATH": str(package or ""),
            "SPARSE_RNN_RUNS": "runs",
            "SPARSE_RNN_DATA": "data",
            "OMP_NUM_THREADS": "1",
        }

    def follow(self, block: str) -> None:
        """Run every `$ command` of a console block; the lines below it must be what it prints."""
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE):
            if part:
                command, *shown = part.splitlines()
                assert_shown(shown, self.run(command))

    def run(self, command: str) -> str:
        """What a command prints; it must succeed."""
        program, *arguments = command.split()
        if program == "cd":
            self._folder = self._home / arguments[0].removeprefix("~/")
            return ""
        if program == "export":
            self._variables |= dict(argument.split("=", 1) for argument in arguments)
            return ""
        done = subprocess.run(
            [*self._programs[program], *arguments],
            cwd=self._folder,
            env=self._variables,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def execute(command: str, project: Path) -> str:
    """What a command prints in the copied project; it must succeed."""
    return Shell(project, project).run(command)


def assert_shown(shown: list[str], printed: str) -> None:
    """Every line shown was printed, in this order; numbers and spaces may differ, `...` stands for lines left out."""
    rest = iter(map(without_numbers, printed.splitlines()))
    for line in shown:
        assert line == "..." or without_numbers(line) in rest, f"{line!r} is not in\n{printed}"


def without_numbers(line: str) -> str:
    """A line with all numbers and run ids replaced."""
    return " ".join(NUMBER.sub("#", line).split())


def files_of_pages() -> Iterator[tuple[str, str, bool]]:
    """Page, path and whether it is appended to, for every file that a page writes."""
    for page in ADDITIONS:
        for part in parts(page):
            yield from ((page, block["path"], bool(block["append"])) for block in FENCE.finditer(part) if block["path"])

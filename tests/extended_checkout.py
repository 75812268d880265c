"""A copy of the checkout to which all pages "Add a ..." are applied: python tests/extended_checkout.py FOLDER."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from worked_pages import ADDITIONS, copy_project, write_files

FOLDERS = ("launch", "results", "notebooks", "benchmarks", "scripts", "website", ".ci")
FILES = (
    "CHANGELOG.md",
    "CITATION.cff",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "SECURITY.md",
    "Makefile",
    "constraints.txt",
    "uv.lock",
    ".gitignore",
)


def extend(folder: Path) -> Path:
    """Make the copy in `folder`, which is emptied first; returns it."""
    shutil.rmtree(folder, ignore_errors=True)
    copy_project(folder, *FOLDERS, *FILES)
    for page in ADDITIONS:
        write_files(page, folder)
    subprocess.run([sys.executable, "docs/methods.py"], cwd=folder, env=environment(folder), check=True)
    return folder


def environment(folder: Path) -> dict[str, str]:
    """The variables with which Python finds the packages of the copy."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (folder, folder / "tests")))}


if __name__ == "__main__":
    extend(Path(sys.argv[1]).absolute())

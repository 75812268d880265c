"""The commands of docs/results.md on sweeps, executed from an empty folder; what they show must be what is printed."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.documented
ROOT = Path(__file__).parent.parent
BLOCK = re.compile(r"<!-- sweep -->\n```console\n(.*?)```\n<!-- end of sweep -->", re.DOTALL)
NUMBER = re.compile(r"-[0-9a-f]{8}\b|\b[0-9a-f]{7}\b\+?|\d[\d,.]*|-{2,}:?")


def commands() -> list[tuple[str, list[str]]]:
    """Each command of the page, and the lines shown below it."""
    [block] = BLOCK.findall((ROOT / "docs" / "results.md").read_text(encoding="utf-8"))
    parts = [part.splitlines() for part in re.split(r"^\$ ", block, flags=re.MULTILINE) if part]
    return [(lines[0], lines[1:]) for lines in parts]


def execute(command: str, folder: Path) -> str:
    """What a command prints in a folder; it must succeed."""
    program, *arguments = shlex.split(command)
    assert program == "python"
    own = {"PYTHONPATH": str(ROOT), "SPARSE_RNN_RUNS": "runs", "OMP_NUM_THREADS": "1", "SPARSE_RNN_DATA": "data"}
    done = subprocess.run(
        [sys.executable, *arguments], cwd=folder, env=os.environ | own, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def same(line: str) -> str:
    """A line without numbers, ids, bold type and the widths of columns."""
    return " ".join(NUMBER.sub("#", line).replace("|", " ").replace("*", " ").split())


@pytest.mark.timeout(280)
def test_a_sweep_from_an_empty_folder(tmp_path: Path) -> None:
    for command, shown in commands():
        printed = [same(line) for line in execute(command, tmp_path).splitlines()]
        rest = iter(printed)
        for line in shown:
            assert line == "..." or same(line) in rest, f"{line!r} is not in\n" + "\n".join(printed)
    assert {path.name for path in (tmp_path / "figures").iterdir()} == {"sweep.png", "sweep.svg", "sweep.csv"}

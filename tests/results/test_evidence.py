"""What is committed in results/output and docs follows from the logs in results/logs, byte for byte."""

import shlex
import subprocess
from pathlib import Path

import pytest

from results import commands
from results.requests import parse

ROOT = Path(__file__).parents[2]
PICTURES = (".png",)  # whose bytes depend on the libraries that compress them


def evidence() -> list[list[str]]:
    """The words of each command of `make evidence` after `-m results`, which is printed and not run."""
    printed = subprocess.run(["make", "-n", "evidence"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    lines = [line.partition("-m results ")[2] for line in printed.splitlines() if "-m results " in line]
    assert len(lines) >= 4
    return [shlex.split(line) for line in lines]


@pytest.mark.parametrize("words", evidence(), ids=lambda words: " ".join(words[:2]))
def test_the_committed_files_are_made_again(words, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(ROOT)  # the command names the logs from here
    monkeypatch.setenv("SPARSE_RNN_RUNS", str(tmp_path / "runs"))
    committed = Path(words[words.index("--out") + 1])
    out = tmp_path / committed
    if committed.suffix:
        out.parent.mkdir(parents=True)
        out.write_bytes(committed.read_bytes())  # a page keeps its own text
        committed = committed.parent
    made = [str(out) if word == words[words.index("--out") + 1] else word for word in words]
    request = parse(made[0], made[1:])
    getattr(commands, request.command)(request)
    files = [path.relative_to(tmp_path / committed) for path in (tmp_path / committed).rglob("*") if path.is_file()]
    assert files
    for path in files:
        assert (committed / path).is_file(), f"{committed / path} is not committed: `make evidence` writes it"
        if path.suffix not in PICTURES:
            again, before = (tmp_path / committed / path).read_bytes(), (committed / path).read_bytes()
            assert again == before, f"{committed / path} is out of date: `make evidence` makes it again"

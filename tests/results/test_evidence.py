"""What is committed in results/output and docs follows from the logs in results/logs, byte for byte."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from results import commands
from results.requests import parse

pytestmark = pytest.mark.documented
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
    outputs = [words[words.index("--out") + 1]] if "--out" in words else words[1:]
    for page in outputs if words[0] == "refresh" else ():
        (tmp_path / page).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / page).write_bytes(Path(page).read_bytes())
    request = parse(words[0], [str(tmp_path / word) if word in outputs else word for word in words[1:]])
    getattr(commands, request.command)(request)
    made = [
        path for output in outputs for path in (tmp_path / output, *(tmp_path / output).rglob("*")) if path.is_file()
    ]
    assert made
    for path in made:
        committed = path.relative_to(tmp_path)
        assert committed.is_file(), f"{committed} is not committed: `make evidence` writes it"
        if path.suffix not in PICTURES:
            assert path.read_bytes() == committed.read_bytes(), f"{committed} is out of date: run `make evidence`"


@pytest.mark.parametrize(
    "record", sorted((ROOT / "results/logs").rglob("record.json")), ids=lambda path: path.parent.name
)
def test_a_committed_log_names_its_origin_but_no_folder_of_a_machine(record) -> None:
    text = record.read_text(encoding="utf-8")
    log = json.loads(text)
    assert log["environment"]["commit"]
    assert log["threads"]
    assert log["device"] in ("cpu", "cuda", "cuda:0")
    assert '"/' not in text

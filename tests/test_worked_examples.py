"""The pages "Add a ..." of docs: their files are written, their commands run, in a copy of the project."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FENCE = re.compile(
    r'^```(?P<language>\w+)(?: title="(?P<path>[^"]+)"(?P<append> append)?)?\n(?P<text>.*?)^```',
    re.DOTALL | re.MULTILINE,
)
NUMBER = re.compile(r"-[0-9a-f]{8}\b|\d[\d,.]*")


@pytest.fixture
def project(tmp_path):
    """A copy of what the pages extend."""
    copy = tmp_path / "project"
    for folder in ("sparse_rnn", "conf", "docs", "tests"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for file in ("README.md", "pyproject.toml"):
        shutil.copy(ROOT / file, copy)
    return copy


def follow(page: str, project: Path) -> None:
    """Do what a page says, from top to bottom: what it shows must be what is printed, its files must pass ruff."""
    for block in FENCE.finditer((ROOT / "docs" / page).read_text(encoding="utf-8")):
        if block["path"]:
            write(project / block["path"], block["text"], append=bool(block["append"]))
            if block["language"] == "python":
                execute(f"python -m ruff check {block['path']}", project)
                execute(f"python -m ruff format --check {block['path']}", project)
        elif block["language"] == "console":
            for command, shown in commands(block["text"]):
                assert_shown(shown, execute(command, project))


def write(path: Path, text: str, *, append: bool) -> None:
    """A file that is there already must be meant to be, and the other way round."""
    assert path.exists() == append, path
    path.write_text(f"{path.read_text()}\n\n{text}" if append else text, encoding="utf-8")


def commands(block: str) -> list[tuple[str, list[str]]]:
    """Each `$ command` of a console block, and the lines shown below it."""
    parts = [part.splitlines() for part in re.split(r"^\$ ", block, flags=re.MULTILINE) if part]
    return [(lines[0], lines[1:]) for lines in parts]


def execute(command: str, project: Path) -> str:
    """What a command prints in the copied project; it must succeed."""
    program, *arguments = command.split()
    assert program == "python"
    environment = {**os.environ, "PYTHONPATH": str(project), "SPARSE_RNN_RUNS": "runs", "OMP_NUM_THREADS": "1"}
    environment["SPARSE_RNN_DATA"] = "data"
    done = subprocess.run(
        [sys.executable, *arguments], cwd=project, env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def assert_shown(shown: list[str], printed: str) -> None:
    """Every line shown was printed, in this order; numbers and spaces may differ, `...` stands for lines left out."""
    rest = iter(map(without_numbers, printed.splitlines()))
    for line in shown:
        assert line == "..." or without_numbers(line) in rest, f"{line!r} is not in\n{printed}"


def without_numbers(line: str) -> str:
    """A line with all numbers and run ids replaced."""
    return " ".join(NUMBER.sub("#", line).split())


def records(project: Path) -> list[dict]:
    """The records of the runs that a page has trained, in the order of their ids."""
    return [json.loads(path.read_text()) for path in sorted(project.glob("runs/*/record.json"))]


def rows(project: Path, record: dict) -> list[dict]:
    """What a run has logged."""
    text = (project / "runs" / record["run_id"] / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_add_a_growth_rule(project):
    """The rule is recorded, listed, and decides: under RigL's own the same run has another result."""
    follow("add-a-growth-rule.md", project)
    execute("python -m sparse_rnn.train sparsifier=rigl dataset=pydoc budget=smoke logger=files", project)
    found = {(r["config"]["sparsifier"]["name"], r["config"]["growth"]["name"]): r for r in records(project)}
    grown = {("rigl", growth) for growth in ("gradient", "smallest_gradient", "coactivation")}
    assert set(found) == {*grown, ("rigl_control", "smallest_gradient")}
    for record in found.values():
        assert record["status"] == "finished"
        assert record["sparsity"] == pytest.approx(0.67, abs=1e-4)
    assert len({found[pair]["digest"] for pair in grown}) == 3
    row = "| `rigl_control` | er | magnitude | smallest_gradient | none | tensor | cosine | epoch |"
    for page in ("README.md", "docs/methods.md"):
        assert row in (project / page).read_text().splitlines()


def test_add_a_model(project):
    follow("add-a-model.md", project)
    described = execute("python -m sparse_rnn.describe model=mgu optimizer=adam format=json", project)
    weights = {weight["name"]: weight for weight in json.loads(described)["weights"]}
    for name in ("unit.input.weight", "unit.recurrent.weight"):
        assert weights[name]["gates"] == {"forget": [0, 650], "new": [650, 1300]}
    [record] = records(project)
    assert (record["status"], record["config"]["model"]["name"]) == ("finished", "mgu")
    assert record["config"]["model"]["hidden"] == 16
    last = next(row for row in reversed(rows(project, record)) if "sparsity/model" in row)
    shares = [last[f"sparsity/unit.recurrent.weight/{gate}"] for gate in ("forget", "new")]
    assert sum(shares) / 2 == pytest.approx(0.67, abs=0.01)
    assert shares[0] != shares[1]


def test_add_a_dataset(project):
    follow("add-a-dataset.md", project)
    found = {record["config"]["dataset"]["name"]: record for record in records(project)}
    assert set(found) == {"brackets", "first_word", "text", "labelled_text", "farm", "moods"}
    assert found["text"]["results"]["test/perplexity"] < 4.5
    assert found["text"]["results"] == found["farm"]["results"], "the same files, by their names and by that of a set"
    assert all(found[name]["results"]["test/accuracy"] > 0.9 for name in ("labelled_text", "moods"))
    brackets, first_word = found["brackets"], found["first_word"]
    assert brackets["sizes"] == [7]
    assert brackets["results"]["test/perplexity"] < 3.5
    assert first_word["sizes"] == [4, 3]
    assert first_word["config"]["optimizer"]["lr"] == 0.01
    assert first_word["results"]["test/accuracy"] > 0.9


@pytest.mark.parametrize("page", ["add-a-growth-rule.md", "add-a-model.md", "add-a-dataset.md"])
def test_a_reader_sees_where_each_file_goes(page):
    """Browsers do not show a block's title: the text before it names the path."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for block in FENCE.finditer(text):
        if block["path"]:
            assert f"`{block['path']}`" in text[: block.start()].rpartition("```")[2], block["path"]

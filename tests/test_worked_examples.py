"""The pages "Add a ..." of docs: their files are written, their commands run, in a copy of the project and outside."""

import json
from pathlib import Path

import pytest
from worked_pages import ADDITIONS, FENCE, ROOT, copy_project, execute, follow, follow_outside, outside_files

pytestmark = pytest.mark.documented


@pytest.fixture
def project(tmp_path):
    """A copy of what the pages extend."""
    return copy_project(tmp_path / "project", "launch", "results")


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
    assert set(found) == {*grown, ("rigl_control", "smallest_gradient"), ("selfish", "random")}
    assert found["selfish", "random"]["config"]["sparsifier"]["removal"] == "patient"
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


def test_add_a_table(project):
    follow("add-a-table.md", project)
    plan = execute("python -m launch plan mine budget=smoke dataset=pydoc", project)
    assert "18 runs: 18 missing" in plan


@pytest.mark.parametrize("page", ADDITIONS)
def test_the_same_files_do_the_same_outside_of_the_checkout(page, tmp_path):
    follow_outside(page, tmp_path, ROOT)
    for record in records(tmp_path / "lab"):
        own = {name: code for name, code in record["environment"]["code"].items() if "/lab/" in code["file"]}
        assert record["status"] == "finished"
        assert own
        assert all(len(code["sha256"]) == 64 for code in own.values())


def test_the_files_outside_are_those_that_the_pages_name():
    assert {page: sorted(outside_files(page)) for page in ADDITIONS} == {
        "add-a-growth-rule.md": [
            "conf/growth/smallest_gradient.yaml",
            "conf/sparsifier/rigl_control.yaml",
            "my_rules.py",
        ],
        "add-a-model.md": ["conf/model/mgu.yaml", "conf/recipe/mgu_adam.yaml", "conf/size/smoke/mgu.yaml", "mgu.py"],
        "add-a-dataset.md": [
            "conf/dataset/first_word.yaml",
            "conf/tuning/lstm_classifier/adam/first_word.yaml",
            "my_data.py",
        ],
        "add-a-table.md": ["conf/table/mine.yaml"],
    }


@pytest.mark.parametrize("page", ADDITIONS)
def test_a_reader_sees_where_each_file_goes(page):
    """Browsers do not show a block's title: the text before it names the path."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    for block in FENCE.finditer(text):
        if block["path"]:
            assert f"`{block['path']}`" in text[: block.start()].rpartition("```")[2], block["path"]

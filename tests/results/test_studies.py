"""Studies of `launch tune`: as a table, as a picture, and on the page."""

import json
from pathlib import Path

import pytest

from results import commands
from results.figures import study_history
from results.page import document
from results.requests import Request, parse
from results.sources.logs import Logs
from sparse_rnn.core.errors import ConfigError, DamagedFile
from sparse_rnn.runs.studies import FILE, FOLDER, Study, Trial, best_trial, read_study, write_study

SPACE = {"optimizer.lr": "log(1,40)", "sparsifier": "choice(set,rigl)"}


def trial(number: int, state: str, value: float | None) -> Trial:
    return Trial(number, state, f"run-{number}", {"optimizer.lr": f"{number + 1}", "sparsifier": "set"}, value, 4)


MINE = Study(
    "mine",
    SPACE,
    ["budget=smoke"],
    "valid/perplexity",
    [trial(0, "complete", 300.0), trial(1, "pruned", 400.0), trial(2, "complete", 250.0), trial(3, "failed", None)],
    {"optimizer.lr": 0.75, "sparsifier": 0.25},
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "runs" / FOLDER / "mine"
    path.mkdir(parents=True)
    write_study(MINE, path)
    return path


def test_a_study_is_read_as_it_was_written(folder):
    assert read_study(folder) == MINE
    assert read_study(folder.parent / "other") is None


def test_the_best_is_the_least_perplexity_and_the_largest_accuracy():
    assert best_trial(MINE) == MINE.trials[2]
    accuracy = Study("mine", SPACE, [], "valid/accuracy", [trial(0, "complete", 0.9), trial(1, "complete", 0.8)])
    assert best_trial(accuracy) == accuracy.trials[0]
    assert best_trial(Study("mine", SPACE, [], "valid/accuracy", [trial(0, "pruned", 0.9)])) is None


def test_the_table_begins_with_the_best(folder, capsys):
    commands.tuning(parse("tuning", []))
    lines = [line.split("|") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in line[1:-1]] for line in lines]
    assert cells == [
        ["trial", "lr", "sparsifier", "valid perplexity", "epochs", "state", "run"],
        ["2", "3", "set", "**250.00**", "4", "complete", "run-2"],
        ["0", "1", "set", "300.00", "4", "complete", "run-0"],
        ["1", "2", "set", "400.00", "4", "pruned", "run-1"],
        ["3", "4", "set", "none", "4", "failed", "run-3"],
    ]


def test_the_picture_shows_every_value_the_best_so_far_and_the_importance(folder, tmp_path):
    history, importance = study_history.draw(MINE).figure.axes
    drawn = {line.get_label(): list(zip(*line.get_data(), strict=True)) for line in history.lines}
    assert drawn == {
        "complete": [(0, 300.0), (2, 250.0)],
        "pruned": [(1, 400.0)],
        "best so far": [(0, 300.0), (2, 250.0)],
    }
    assert [bar.get_width() for bar in importance.patches] == [0.25, 0.75]
    commands.tuning(parse("tuning", ["mine", "--out", str(tmp_path / "out")]))
    assert {path.name for path in (tmp_path / "out").iterdir()} == {f"mine.{e}" for e in ("md", "png", "svg", "csv")}


def test_a_study_without_values_is_drawn_as_well():
    study_history.draw(Study("mine", SPACE, [], "valid/perplexity", [trial(0, "running", None)]))
    study_history.draw(Study("mine", SPACE, [], "valid/perplexity"))


def test_the_page_has_the_studies_and_says_which_are_damaged(folder, monkeypatch):
    monkeypatch.setattr(document.names, "tables", list)  # hundreds of runs, which would be composed
    monkeypatch.setattr(document.names, "figures", list)
    other = folder.parent / "other"
    other.mkdir()
    (other / FILE).write_text("{}")
    page = document.page(Request("site"), Logs("runs", {}), folder)
    assert '<section id="studies">' in page
    assert "run-2" in page
    assert "<li>other: " in page


def test_what_is_not_there_or_damaged_is_said(tmp_path, folder):
    with pytest.raises(ConfigError, match=r"no study mime below .*mine"):
        commands.tuning(parse("tuning", ["mime"]))
    damaged = json.loads((folder / FILE).read_text())
    damaged["trials"][0]["state"] = "odd"
    (folder / FILE).write_text(json.dumps(damaged))
    with pytest.raises(DamagedFile, match="'odd'"):
        read_study(folder)
    (folder / FILE).unlink()
    with pytest.raises(ConfigError, match="There is no study below"):
        commands.tuning(parse("tuning", []))

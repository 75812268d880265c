"""Tables and figures of one's own: by path and by name, what is refused, and that they speak of no paper."""

import os
from pathlib import Path

import pytest
import yaml

from launch.requests import Request as Launch
from launch.requests import entries
from results.gathering import plan
from results.names import figures, tables
from results.requests import parse
from results.tables.cells import fill, lines
from results.tables.flop_columns import FlopsOfRuns
from results.tables.layout import lay_out
from sparse_rnn.core.conf import SEARCH_PATH, config_dir
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.tables.catalogue import Catalogue
from sparse_rnn.tables.declaration import kind_of, load, names

TABLE = {
    "title": "Growth, stacked LSTM, Penn Treebank",
    "source": "our notebook",
    "columns": ["valid", "test"],
    "seeds": [1],
    "blocks": [
        {
            "label": "B",
            "rows": [{"label": "R", "with": ["sparsifier=rigl"]}, {"label": "S", "with": ["sparsifier=set"]}],
        }
    ],
}
FIGURE = {key: value for key, value in TABLE.items() if key != "columns"}


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Write a file below the current folder; returns its path as a user writes it."""
    monkeypatch.chdir(tmp_path)

    def write(path="my/table.yaml", given=TABLE):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Path(path).write_text(given if isinstance(given, str) else yaml.safe_dump(given))
        return path

    return write


def refusal(call) -> str:
    with pytest.raises(ConfigError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("path", "given", "kind"),
    [
        ("my/own.yaml", TABLE, "table"),
        ("./own.yml", TABLE, "table"),
        ("own.yaml", FIGURE, "figure"),
        ("figure/own.yaml", FIGURE, "figure"),
        ("table/own.yaml", TABLE, "table"),
        ("a folder/own.yaml", TABLE, "table"),
    ],
)
def test_a_path_is_as_good_as_a_name(path, given, kind, file, tmp_path):
    file(path, given)
    assert kind_of(path) == kind
    spec = load(path)
    assert (spec.name, spec.title) == ("own", TABLE["title"])
    found = entries(Launch("plan", [path]), Catalogue(tmp_path / ".launch"))
    assert [entry.block for entry in found] == ["own: B", "own: B"]
    assert parse(kind, [path]).names == [path]


def test_the_path_of_a_paper_s_table_is_that_table(file):
    path = str(config_dir() / "table" / "table2.yaml")
    assert load(path) == load("table2")
    assert parse("table", [path]).names == [path]


def test_a_file_in_a_folder_of_configuration_has_a_name(file, monkeypatch):
    file("lab/table/own.yaml")
    file("lab/figure/curves.yaml", FIGURE)
    monkeypatch.setenv(SEARCH_PATH, "lab")
    assert "own" in tables()
    assert "curves" in figures()
    assert {"own", "curves"} <= set(names())
    assert load("own") == load("lab/table/own.yaml")
    assert "did you mean own" in refusal(lambda: load("onw"))
    file("lab/table/again.yaml", {"title": "T", "source": "S", "columns": ["test"], "blocks_of": "own"})
    assert load("again").blocks == load("own").blocks


@pytest.mark.parametrize(
    ("path", "given", "sentence"),
    [
        ("my/table2.yaml", TABLE, "my/table2.yaml has the name of {conf}/table/table2.yaml: rename it."),
        ("my/figure5.yaml", FIGURE, "my/figure5.yaml has the name of {conf}/figure/figure5.yaml: rename it."),
        (
            "my/table1.yaml",
            TABLE,
            "my/table1.yaml has the name of table1 of the papers, which needs no file: rename it.",
        ),
        ("my/own.yaml", {**TABLE, "titel": "T"}, "my/own.yaml: titel is not a key here (did you mean title?)."),
        (
            "my/own.yaml",
            "[",
            "my/own.yaml, line 1 is not the YAML of a table (expected the node content, but found '<stream end>').",
        ),
        ("my/own.yaml", "- a\n", "my/own.yaml must be a mapping with title, source and blocks."),
    ],
)
def test_mistakes_name_the_file(path, given, sentence, file):
    file(path, given)
    assert refusal(lambda: load(path)) == sentence.format(conf=config_dir())


def test_what_is_no_file(file, tmp_path):
    file()
    for word in ("my/tabel.yaml", "my/", "own.yaml"):
        assert refusal(lambda word=word: load(word)).startswith(f"{Path(word)} is not a file: ")
    Path("my/bytes.yaml").write_bytes(b"\xff\xfe\x00")
    assert refusal(lambda: load("my/bytes.yaml")).startswith("my/bytes.yaml is not the YAML of a table")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["table", "curves.yaml"], "curves.yaml is no table: it is a figure."),
        (["figure", "my/own.yaml"], "my/own.yaml is no figure: it is a table."),
        (
            ["table", "my/own.yaml", "other/own.yaml"],
            "2 of these tables have the name own: rename a file, or give one of them.",
        ),
    ],
)
def test_results_refuses(words, sentence, file):
    file("my/own.yaml")
    file("other/own.yaml")
    file("curves.yaml", FIGURE)
    assert refusal(lambda: parse(words[0], words[1:])) == sentence


def test_a_name_that_is_taken_by_a_table_without_a_file_is_refused(file, monkeypatch):
    file("lab/table/table1.yaml")
    monkeypatch.setenv(SEARCH_PATH, os.path.abspath("lab"))
    assert refusal(names).endswith(
        "lab/table/table1.yaml has the name of table1 of the papers, which needs no file: rename it."
    )


@pytest.mark.parametrize(
    ("name", "overrides", "title"),
    [
        ("table6", [], None),
        ("table6", ["budget=smoke"], None),
        ("table6", ["dataset=ptb", "budget=smoke", "training.epochs=2"], None),
        ("table6", ["protocol=paper"], None),
        ("table6", ["dataset=pydoc"], "table6 with dataset=pydoc"),
        ("table6", ["budget=smoke", "dataset=pydoc", "optimizer=adam"], "table6 with dataset=pydoc, optimizer=adam"),
        ("my/own.yaml", ["dataset=pydoc"], "own with dataset=pydoc"),
        ("my/own.yaml", ["optimizer=snt_asgd"], None),
        ("my/own.yaml", ["sparsifier.sparsity=0.9"], None),
        ("figure5", ["dataset=pydoc"], "figure5 with dataset=pydoc"),
    ],
)
def test_a_title_is_kept_while_it_is_true(name, overrides, title, file, tmp_path):
    file("my/own.yaml")
    gathered = plan(name, Catalogue(tmp_path / ".launch"), overrides=overrides, seeds=[1])
    assert gathered.title == (title or load(name).title)


@pytest.mark.parametrize("overrides", [[], ["budget=smoke"], ["dataset=pydoc", "budget=smoke"]])
def test_a_table_of_one_s_own_speaks_of_no_paper(overrides, file, tmp_path):
    gathered = plan(file(), Catalogue(tmp_path / ".launch"), overrides=overrides)
    filled = fill(gathered, FlopsOfRuns([]))
    grid = lay_out(filled, None, "x")
    said = [grid.title, grid.source, *grid.notes, *(heading.text for line in grid.header for heading in line)]
    assert not [text for text in said if "paper" in text]
    assert not [key for line in lines(filled) for key in line if "paper" in key or key == "comparable"]


def test_tables_of_the_papers_still_do(tmp_path):
    filled = fill(plan("table6", Catalogue(tmp_path), seeds=[1]), FlopsOfRuns([]))
    assert {"paper", "comparable", "paper_outside_2_std"} <= set(next(lines(filled)))

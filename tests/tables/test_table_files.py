"""A file of a table: how its settings combine, and that every mistake is one sentence with file and row."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.tables import declaration as table
from sparse_rnn.tables.declaration import load
from sparse_rnn.tables.expansion import expand

MINE = """
title: T
source: S
columns: [valid]
seeds: [1, 2]
common: [model=rhn, sparsifier.sparsity=0.5]
blocks:
  - label: B
    common: [sparsifier.sparsity=0.6]
    rows:
      - {label: R, with: [sparsifier=rigl]}
      - {label: Q, with: [sparsifier=set, sparsifier.sparsity=0.7]}
"""
FIGURE = MINE.replace("columns: [valid]\n", "")
BLOCK = MINE.index("  - label: B")


@pytest.fixture
def mine(tmp_path, monkeypatch):
    """Write conf/table/own.yaml, or another file, into a folder of tables of the user."""
    monkeypatch.chdir(tmp_path)

    def write(text, name="own", kind="table"):
        Path("conf", kind).mkdir(parents=True, exist_ok=True)
        Path("conf", kind, f"{name}.yaml").write_text(text, encoding="utf-8")
        monkeypatch.setenv("SPARSE_RNN_CONF", "conf")

    return write


def test_later_settings_replace_earlier_ones(mine, compose):
    x = "    x: {key: sparsifier.removal_rate, values: [0.2, 0.4]}\n    seeds: [5]\n"
    mine(FIGURE.replace("    rows:", f"{x}    rows:"), kind="figure")
    planned = expand(load("own"), compose)
    assert [(p.row, p.x, p.seed) for p in planned] == [("R", 0.2, 5), ("R", 0.4, 5), ("Q", 0.2, 5), ("Q", 0.4, 5)]
    assert [p.facts.run.sparsifier.sparsity for p in planned] == [0.6, 0.6, 0.7, 0.7]
    assert [p.facts.run.sparsifier.removal_rate for p in planned] == [0.2, 0.4, 0.2, 0.4]
    assert planned[0].overrides == (
        "model=rhn",
        "sparsifier.sparsity=0.6",
        "sparsifier=rigl",
        "sparsifier.removal_rate=0.2",
        "seed=5",
    )
    user = ["sparsifier.sparsity=0.9", "model=stacked_lstm", "++training.epochs=3"]
    planned = expand(load("own"), compose, seeds=[8, 9], overrides=user)
    assert [p.seed for p in planned] == [8, 9] * 4
    runs = [p.facts.run for p in planned]
    assert {(run.sparsifier.sparsity, run.model.name, run.training.epochs) for run in runs} == {
        (0.9, "stacked_lstm", 3)
    }


def test_short_and_long_keys_are_the_same_key(mine, compose):
    mine(MINE.replace("common: [model=rhn,", "common: [snapshots=true,"))
    assert expand(load("own"), compose)[0].facts.run.snapshots.enabled
    [first, *_] = expand(load("own"), compose, overrides=["snapshots.enabled=false"])
    assert not first.facts.run.snapshots.enabled
    assert not any(override.startswith("snapshots=") for override in first.overrides)


def test_a_group_can_be_taken_away(mine, compose):
    mine(MINE)
    assert len(expand(load("own"), compose, overrides=["~tuning"])) == 4


def test_numbers_of_a_file_with_a_budget_are_its_own(mine, compose):
    mine(MINE.replace("model=rhn,", "model=rhn, budget=reduced, model.hidden=100,"))
    for overrides, hidden in ([], 100), (["budget=reduced"], 100), (["budget=smoke"], 8), (["budget=paper"], 415):
        assert expand(load("own"), compose, overrides=overrides)[0].facts.run.model.hidden == hidden


def test_without_a_recipe_numbers_stay(mine, compose):
    settings = "recipe=none, optimizer.lr=1, training.epochs=9, sparsifier.removal_rate=0.3"
    mine(MINE.replace("model=rhn,", f"model=rhn, {settings},"))
    assert expand(load("own"), compose, overrides=["budget=smoke"])[0].facts.run.training.epochs == 9


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("table2", {"overrides": ["seed=3"]}, ["seed=3", "table2", "seeds"]),
        ("table2", {"overrides": ["+seed=3"]}, ["seed=3", "table2", "seeds"]),
        ("table2", {"seeds": []}, ["seeds", "at least one"]),
        ("table2", {"seeds": [1, 1]}, ["seeds", "different"]),
        ("table2", {"seeds": [-1]}, ["seeds", "from 0"]),
        ("table7", {"overrides": ["protocol=official_code"]}, ["table7", "'Dense1000 (NT-ASGD)'", "model=on_lstm"]),
        ("st_table4", {"overrides": ["dataset=pydoc"]}, ["st_table4", "'Twitter'", "'Dense'", "dataset=pydoc"]),
        ("table2", {"overrides": ["budget=smal"]}, ["table2", "'Dense (NT-ASGD)'", "budget=smal"]),
        ("table2", {"overrides": ["modle.hidden=3"]}, ["table2", "modle"]),
        ("table2", {"overrides": ["~growth"]}, ["table2", "growth"]),
        ("table2", {"overrides": ["training"]}, ["table2", "key=value"]),
        ("figure7", {"overrides": ["sparsifier.sparsity=0.5"]}, ["figure7", "varies", "sparsifier.sparsity=0.5"]),
    ],
)
def test_overrides_that_do_not_fit_are_refused(name, arguments, words, compose):
    with pytest.raises(ConfigError) as caught:
        expand(load(name), compose, **arguments)
    assert_sentence(str(caught.value), words)


def assert_sentence(sentence, words):
    assert "\n" not in sentence
    assert sentence.endswith(".")
    for word in words:
        assert word in sentence


@pytest.mark.parametrize(("name", "words"), [("tabel2", ["tabel2", "table2"]), ("figure55", ["figure5"])])
def test_a_table_that_does_not_exist(name, words):
    with pytest.raises(ConfigError) as caught:
        load(name)
    assert_sentence(str(caught.value), ["did you mean", *words])


ROW_R = ["block 'B'", "row 'R'"]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("with: [sparsifier=rigl]", "with: [sparsifier=rigll]", [*ROW_R, "sparsifier=rigll", "rigl?"]),
        ("with: [sparsifier=rigl]", "with: [sparsifier.sparsty=0.5]", [*ROW_R, "sparsifier.sparsty", "sparsity"]),
        ("with: [sparsifier=rigl]", "with: [sparsifier=dense]", [*ROW_R, "dense has no sparsity"]),
        ("with: [sparsifier=rigl]", "with: [seed=3]", [*ROW_R, "seed", "seeds"]),
        ("common: [model=rhn", "common: [seed=3", ["seed", "common", "seeds"]),
        ("with: [sparsifier=rigl]", "with: [sparsifier]", [*ROW_R, "with", "overrides"]),
        ("with: [sparsifier=rigl]", "with: sparsifier=rigl", [*ROW_R, "with", "a list of overrides"]),
        ("with: [sparsifier=rigl]", "with: []", [*ROW_R, "with", "at least one"]),
        ("with: [sparsifier=rigl]", "wiht: [sparsifier=rigl]", [*ROW_R, "wiht", "did you mean with"]),
        ("with: [sparsifier=rigl]", "with: [sparsifier=rigl], reported: true", [*ROW_R, "reported", "with"]),
        ("with: [sparsifier=rigl]", "reported: maybe", [*ROW_R, "reported", "true or false"]),
        ("with: [sparsifier=rigl]", "line: true", [*ROW_R, "line", "x"]),
        ("label: Q", "label: R", ["block 'B'", "rows", "two have 'R'"]),
        ("label: R,", "", ["block 'B'", "row 1", "label is missing"]),
        ("[sparsifier=set, sparsifier.sparsity=0.7]", "[sparsifier=rigl]", ["block 'B'", "'R'", "'Q'", "same run"]),
        ("title: T", "titel: T", ["titel", "title"]),
        ("title: T", "", ["title is missing"]),
        ("title: T", "title: 3", ["title", "must be text"]),
        ("columns: [valid]", "", ["columns is missing"]),
        ("columns: [valid]", "columns: [vaild]", ["vaild", "valid"]),
        ("columns: [valid]", "columns: [valid, valid]", ["columns", "different"]),
        ("seeds: [1, 2]", "seeds: []", ["seeds", "at least one"]),
        ("seeds: [1, 2]", "seeds: [1, 1]", ["seeds", "different"]),
        ("seeds: [1, 2]", "seeds: 3", ["seeds", "a list"]),
        ("seeds: [1, 2]", "seeds: [true]", ["seeds", "whole numbers"]),
        ("seeds: [1, 2]", "seeds: [1, 2]\nseeds: [3]", ["seeds", "duplicate"]),
        ("    common: [sparsifier.sparsity=0.6]", "    seeds: []", ["block 'B'", "seeds", "at least one"]),
        ("    common: [sparsifier.sparsity=0.6]", "    besides: true", ["block 'B'", "besides", "beside"]),
        ("    common: [sparsifier.sparsity=0.6]", "    beside: true", ["first block", "beside"]),
        ("    common: [sparsifier.sparsity=0.6]", "    x:", ["block 'B'", "x", "a mapping with key and values"]),
        ("    common: [sparsifier.sparsity=0.6]", "    x: {key: a}", ["block 'B'", "x", "values is missing"]),
        ("    common: [sparsifier.sparsity=0.6]", "    x: {key: seed, values: [1]}", ["block 'B'", "seed", "seeds"]),
        (
            "    common: [sparsifier.sparsity=0.6]",
            "    x: {key: sparsifier.removal_rate, values: [0.5, 0.6, 0.5]}",
            ["block 'B'", "x", "values", "different"],
        ),
        (
            "    common: [sparsifier.sparsity=0.6]",
            "    x: {key: sparsifier.removal_rate, values: [0.5, 0.6]}",
            ["block 'B'", "x, which is for figures"],
        ),
        (
            "    common: [sparsifier.sparsity=0.6]",
            "    x: {key: training.batch, values: [20, 20.0]}",
            ["block 'B'", "values", "different"],
        ),
        ("source: S", "source: [", ["line", "YAML"]),
        ("source: S", "source: S\nblocks_of: table2", ["blocks_of", "is not a key here"]),
    ],
)
def test_mistakes_in_a_file_name_it_and_the_row(old, new, words, mine, compose):
    assert old in MINE
    mine(MINE.replace(old, new, 1))
    with pytest.raises(ConfigError) as caught:
        expand(load("own"), compose)
    assert_sentence(str(caught.value), ["conf/table/own.yaml", *words])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["title is missing"]),
        ("- a\n", ["must be", "title"]),
        ("3\n", ["YAML"]),
        (MINE[:BLOCK] + "  []\n", ["blocks", "at least one"]),
        (MINE[:BLOCK] + "  - {label: B, rows: []}\n", ["block 'B'", "rows", "at least one"]),
        (MINE[:BLOCK] + "  - {label: B}\n", ["block 'B'", "rows is missing"]),
        (MINE[:BLOCK] + "  - {rows: [{label: R}]}\n", ["block 1", "label is missing"]),
        (MINE[:BLOCK] + "  - {label: B, rows: [R]}\n", ["block 'B'", "rows", "a list of rows"]),
        (MINE + MINE[BLOCK:], ["blocks", "two have 'B'"]),
    ],
)
def test_a_file_without_rows_is_refused(text, words, mine):
    mine(text)
    with pytest.raises(ConfigError) as caught:
        load("own")
    assert_sentence(str(caught.value), ["conf/table/own.yaml", *words])


@pytest.mark.parametrize(
    ("reference", "words"),
    [("orginal", ["orginal", "original"]), ("again", ["again", "no blocks of its own"]), ("own", ["own"])],
)
def test_a_bad_reference_is_refused(reference, words, mine):
    head = "title: T\nsource: S\ncolumns: [test]\nblocks_of:"
    mine(MINE, "original")
    mine(f"{head} original", "again")
    assert load("again").blocks == load("original").blocks
    assert load("again").columns == ("test",)
    mine(f"{head} {reference}")
    with pytest.raises(ConfigError) as caught:
        load("own")
    assert_sentence(str(caught.value), ["conf/table/own.yaml", "blocks_of", *words])


def test_a_mistake_at_one_value_of_x_names_it(mine, compose):
    x = "    x: {key: sparsifier.removal_rate, values: [0.5, 1.6]}"
    mine(FIGURE.replace("    common: [sparsifier.sparsity=0.6]", x), kind="figure")
    with pytest.raises(ConfigError) as caught:
        expand(load("own"), compose)
    assert_sentence(str(caught.value), ["conf/figure/own.yaml", *ROW_R, "at sparsifier.removal_rate=1.6", "[0, 1)"])


def test_a_figure_has_no_columns(mine):
    mine(MINE, kind="figure")
    with pytest.raises(ConfigError, match=r"^conf/figure/own.yaml: columns is not a key here"):
        load("own")
    mine(MINE.replace("columns: [valid]", ""), kind="figure")
    assert load("own").file == "conf/figure/own.yaml"
    mine(MINE)
    with pytest.raises(ConfigError, match="both a table and a figure"):
        load("own")


def test_the_page_on_tables_is_right(mine, compose, planned_of):
    [shared] = [p for p in planned_of("table2") if (p.row, p.seed) == ("RigL (SNT-ASGD)", 1) and "0.67" in p.block]
    page = (Path(__file__).parent.parent.parent / "docs" / "add-a-table.md").read_text(encoding="utf-8")
    mine(re.search(r'```yaml title="conf/table/mine.yaml"\n(.*?)```', page, re.DOTALL)[1])
    planned = expand(load("own"), compose)
    assert f"the {len(planned)} runs" in page
    with_protocol = ["protocol=paper" if o.startswith("protocol=") else o for o in shared.overrides]
    assert compose(with_protocol).run_id in {p.run_id for p in planned if p.row == "Gradient growth, ER"}
    keys = {field.name for part in (table.TableFile, table.Block, table.Row) for field in fields(part)}
    for key in keys - {"rows", "overrides"} | {"with"}:
        assert f"`{key}`" in page
    mistake = re.search(r"```text\nerror: (.*?)\n```", page)[1].replace("mine.yaml", "own.yaml")
    mine(
        Path("conf/table/own.yaml")
        .read_text(encoding="utf-8")
        .replace("rows: *rows", 'rows: [{label: "Gradient growth, uniform", with: [sparsifier=rigll]}]')
    )
    with pytest.raises(ConfigError) as caught:
        expand(load("own"), compose)
    assert str(caught.value) == mistake

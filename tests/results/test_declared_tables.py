"""The tables without runs: fields that the papers print, as the methods, recipes and data sets declare them."""

import subprocess
import sys
from functools import cache

import pytest

from results.reported import Line
from results.tables.declared import DECLARED, methods
from results.tables.declared.hyperparameters import MODELS
from results.tables.declared.parts import NOT_IN_PAPER
from results.tables.flop_columns import PRUNING
from results.tables.grid import Grid
from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.conf import options
from sparse_rnn.core.registry import choices, lookup
from sparse_rnn.tables.declaration import DECLARED_TABLES


@cache
def grid(name: str) -> Grid:
    return DECLARED[name]()


def texts(name: str) -> dict[str, dict[str, list[str]]]:
    """The fields after each row's label, by section."""
    return {
        section.label: {row[0].text: [field.text for field in row[1:]] for row in section.rows}
        for section in grid(name).sections
    }


def sparsifiers() -> set[str]:
    return set(options("sparsifier"))


def test_the_command_line_knows_each_of_them() -> None:
    assert tuple(DECLARED) == DECLARED_TABLES


def test_the_schedules_whose_density_changes_are_those_that_say_so() -> None:
    assert list(PRUNING) == [name for name in choices("schedule") if lookup("schedule", name).prunes]


TITLES = {
    "table1": "Comparison of sparsity-inducing approaches in RNNs",
    "table4": "Hyperparameters",
    "table10": "Training FLOPs of sparse training approaches",
    "st_table1": "Data sets of text classification",
}


@pytest.mark.parametrize("name", DECLARED)
def test_every_row_has_a_field_for_every_column(name: str) -> None:
    made = grid(name)
    assert (made.name, made.title) == (name, TITLES[name])
    widths = {sum(heading.span for heading in line) for line in made.header}
    assert len(widths) == 1
    assert {len(row) for section in made.sections for row in section.rows} == widths
    assert len(set(made.notes)) == len(made.notes)


def test_table_1_has_the_papers_rows() -> None:
    assert texts("table1")[""] == {
        "Iterative pruning (GMP)": ["dense", "min(|w|)", "none", "no", "no"],
        "ISS": ["dense", "Lasso", "none", "no", "no"],
        "SET": ["ER", "min(|w|) of each sign", "random", "no", "yes"],
        "DSR": ["uniform", "|w| < H", "random", "across all layers", "yes"],
        "SNFS": ["uniform", "min(|w|)", "momentum", "across all layers", "no"],
        "RigL": ["ER", "min(|w|)", "gradient", "no", "no"],
        "Selfish-RNN": ["uniform", "min(|w|)", "random", "across RNN cell gates", "yes"],
    }


def test_table_1_says_where_the_paper_differs() -> None:
    differing = {note.partition(":")[0] for note in grid("table1").notes if "in the paper's table" in note}
    assert differing == {"SET, removal", "DSR, removal", "RigL, initialization"}
    (of_set,) = (note for note in grid("table1").notes if note.startswith("SET"))
    assert of_set.startswith("SET, removal: min(|w|) in the paper's table. Its appendix H has ")


@pytest.mark.parametrize(("name", "without"), [("table1", {"dense"}), ("table10", set())])
def test_every_sparsifier_of_conf_has_a_row(name: str, without: set[str]) -> None:
    of_paper = {"Dense": "dense", "Iterative pruning (GMP)": "gmp", "Selfish-RNN": "selfish"}
    sections = texts(name)
    listed = {of_paper.get(label, label.lower()) for label in sections[""]}
    assert listed | set(sections[NOT_IN_PAPER]) == sparsifiers() - without


@pytest.mark.parametrize(
    ("overrides", "traits"),
    [
        ("sparsifier=selfish growth=gradient", ["uniform", "min(|w|)", "gradient", "across RNN cell gates", "no"]),
        (
            "sparsifier=selfish sparsifier.redistribution=gate_gradient",
            ["uniform", "min(|w|)", "random", "across RNN cell gates", "no"],
        ),
        (
            "sparsifier=set sparsifier.removal=magnitude sparsifier.initial=uniform",
            ["uniform", "min(|w|)", "random", "no", "yes"],
        ),
        (
            "sparsifier=st_rnn sparsifier.redistribution=layers_momentum",
            ["ER", "min(|w|)", "random", "across all layers", "no"],
        ),
    ],
)
def test_traits_follow_from_the_rules(overrides: str, traits: list[str]) -> None:
    assert list(methods.traits(compose_run(overrides.split())).values()) == traits


def test_a_new_sparsifier_appears_below_the_papers(monkeypatch: pytest.MonkeyPatch) -> None:
    selfish: Line = {**dict.fromkeys(methods.TRAITS, ""), "sparsifier": "selfish", "label": "Selfish-RNN", "note": ""}
    monkeypatch.setattr(methods, "read_lines", lambda *_: [("line 2", selfish)])
    monkeypatch.setattr(methods, "options", lambda _: ["dsr", "selfish"])
    made = methods.table1()
    assert [(section.label, [row[0].text for row in section.rows]) for section in made.sections] == [
        ("", ["Selfish-RNN"]),
        (NOT_IN_PAPER, ["dsr"]),
    ]


def test_table_4_has_the_papers_rows() -> None:
    # of the stacked LSTM the paper prints the dropouts (0, 0, 0.65, 0); Nonmono it gives once a model
    assert [" | ".join(field.text for field in row) for row in grid("table4").sections[0].rows] == [
        "Stacked LSTM | PTB | Adam | 0.001 | (2x, 2) | 20 | 35 | (0, 0.65, 0.65, 0.65) | 100 | no | no"
        " | 0.25 | - | 0.7",
        "Stacked LSTM | PTB | SNT-ASGD | 40 | - | 20 | 35 | (0, 0.65, 0.65, 0.65) | 100 | no | no | 0.25 | 5 | 0.7",
        "Stacked LSTM | PTB | Momentum SGD | 2 | (1.33x, 1) | 20 | 35 | (0, 0.65, 0.65, 0.65) | 100 | no | no"
        " | 0.25 | - | 0.7",
        "RHN | PTB | Adam | 0.001 | (2x, 2) | 20 | 35 | (0.2, 0.65, 0.25, 0.65) | 500 | yes | yes | 0.25 | - | 0.5",
        "RHN | PTB | SNT-ASGD | 15 | - | 20 | 35 | (0.2, 0.65, 0.25, 0.65) | 500 | yes | yes | 0.25 | 5 | 0.5",
        "ON-LSTM | PTB | Adam | 0.001 | (2x, 2) | 20 | 70 | (0.1, 0.5, 0.3, 0.45) | 1000 | yes | no | 0.25 | - | 0.5",
        "ON-LSTM | PTB | SNT-ASGD | 30 | - | 20 | 70 | (0.1, 0.5, 0.3, 0.45) | 1000 | yes | no | 0.25 | 5 | 0.5",
        "AWD-LSTM-MoS | WikiText-2 | Adam | 0.001 | (2x, 2) | 15 | 70 | (0.1, 0.55, 0.2, 0.4) | 1000 | yes | no"
        " | 0.25 | - | 0.5",
        "AWD-LSTM-MoS | WikiText-2 | SNT-ASGD | 15 | - | 15 | 70 | (0.1, 0.55, 0.2, 0.4) | 1000 | yes | no"
        " | 0.25 | 5 | 0.5",
    ]


def test_table_4_sets_assumed_recipes_apart_and_says_what_they_assume() -> None:
    others = grid("table4").sections[1]
    assert others.label == NOT_IN_PAPER
    ours = [row for row in others.rows if row[0].text in MODELS.values()]
    assert len(ours) == 7
    assert all(row[2].text in ("NT-ASGD", "Momentum SGD") for row in ours)
    nt_asgd = "stacked_lstm_nt_asgd, rhn_nt_asgd, on_lstm_nt_asgd, awd_lstm_mos_nt_asgd: those of SNT-ASGD."
    assert nt_asgd in grid("table4").notes


def test_table_10_has_the_papers_formulas_and_the_factors_of_table_9() -> None:
    assert texts("table10")[""] == {
        "Dense": ["fD", "2 fD", "3 fD", "1.000x", "1.000x"],
        "Iterative pruning (GMP)": ["d(t) fD", "2 d(t) fD", "3 d(t) fD", "0.632x", "0.330x"],
        "ISS": ["d(t) fD", "2 d(t) fD", "3 d(t) fD", "-", "-"],
        "SET": ["fS", "2 fS", "3 fS", "0.333x", "0.334x"],
        "DSR": ["fS", "2 fS", "3 fS", "0.330x", "0.330x"],
        # (2 x .33 x 51M + 66M) / 168M: the paper's .63 is that of the final distribution
        "SNFS": ["fS", "fS + fD", "2 fS + fD", "0.593x", "0.330x"],
        "RigL": ["fS", "((2T + 1) fS + fD) / (T + 1)", "((3T + 2) fS + fD) / (T + 1)", "0.333x", "0.334x"],
        "Selfish-RNN": ["fS", "2 fS", "3 fS", "0.330x", "0.330x"],
    }
    assert grid("table10").header[0][1].text == "Stacked LSTM, sparsity 0.67"


def test_table_10_says_what_only_runs_know() -> None:
    notes = grid("table10").notes
    assert any(note.startswith("DSR, SNFS: counted by the distribution") for note in notes)
    assert any(note.startswith("ISS: the size is an outcome") for note in notes)
    assert any(note.startswith("SNFS: with Adam or momentum SGD") for note in notes)


def test_st_table_1_has_declared_and_printed_sizes() -> None:
    assert texts("st_table1") == {
        "": {
            "Sanders Corpus Twitter": ["4", "4,410", "441", "1,103", "4", "4,410", "1,103"],
            "IMDB": ["2", "25,000", "2,500", "-", "2", "25,000", "25,000"],
            "Yelp 2018": ["5", "120,000", "12,000", "30,000", "5", "120,000", "30,000"],
            "AG's News": ["4", "120,000", "12,000", "-", "4", "120,000", "7,600"],
            "Amazon Fine Food Reviews": ["5", "454,763", "45,476", "113,691", "5", "454,763", "113,691"],
            "Yelp Review Polarity": ["2", "560,000", "56,000", "38,000", "2", "560,000", "70,000"],
        }
    }


def test_st_table_1_says_what_is_unknown_and_what_differs() -> None:
    _, unknown, differs = grid("st_table1").notes
    assert unknown.startswith("IMDB, AG's News: the number of test texts is that of the published file")
    assert differs == (
        "Yelp Review Polarity, test: 70,000 in the paper's table. The data set is published with 38,000."
    )
    muted = [field for section in grid("st_table1").sections for row in section.rows for field in row if field.muted]
    assert [field.text for field in muted] == ["-", "-"]


def test_naming_them_imports_nothing_heavy() -> None:
    program = "import sys, results.__main__; print('torch' in sys.modules, 'hydra' in sys.modules)"
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.split() == ["False"] * 2
    )

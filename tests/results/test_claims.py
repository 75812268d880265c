"""Comparisons and claims: verdicts, sentences, pages and the forest plot, from runs whose results are known."""

import csv
import sys
from collections.abc import Mapping

import pytest
from constructed_runs import finished, gathered_for, texts

from results import __main__ as command
from results.comparisons import page
from results.comparisons.claims import FAILS, HOLDS, OPEN, UNTRIED, Claim
from results.comparisons.pairs import pair_of
from results.figures import forest
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.tables.declaration import Block, Row, TableSpec, load, names

METHODS = (Row("Selfish", ("sparsifier=selfish",)), Row("RigL", ("sparsifier=rigl",)))
CLEAR, SAME, WORSE = (70.0, 71.0, 72.0), (72.1, 70.9, 73.0), (69.0, 70.1, 70.9)  # RigL's, beside Selfish's
SELFISH = (69.0, 70.1, 71.0)


def claim(catalogue, others: Mapping[str, tuple[float, ...]], *, metric="perplexity", margin=0.0) -> Claim:
    """A claim that Selfish is better than RigL, with a setting for each of the results of RigL."""
    blocks = tuple(
        Block(label, METHODS, common=(f"training.epochs={number}",)) for number, label in enumerate(others, 1)
    )
    spec = TableSpec("own", "Selfish is better", "nowhere", (), (1, 2, 3), (), blocks, margin=margin)

    def run(planned):
        scores = SELFISH if planned.row == "Selfish" else others[planned.block]
        score = scores[planned.seed - 1] if planned.seed <= len(scores) else None
        return None if score is None else finished(planned, score / (100 if metric == "accuracy" else 1), metric)

    return Claim(gathered_for(spec, catalogue, run))


def test_the_verdict_follows_from_the_interval(catalogue) -> None:
    settings = {"clear": CLEAR, "same": (69.5, 69.8, 71.1), "worse": (67.0, 68.2, 69.1), "one": (72.0,), "none": ()}
    made = claim(catalogue, settings)
    assert [setting.verdict for setting in made.settings] == [HOLDS, OPEN, FAILS, OPEN, UNTRIED]
    assert made.verdict == "holds in 1, does not hold in 1, undecided in 2 of 4 settings"
    assert claim(catalogue, {"clear": CLEAR}).verdict == HOLDS
    assert claim(catalogue, {"none": ()}).verdict == UNTRIED


def test_of_accuracies_more_is_better(catalogue) -> None:
    settings = claim(catalogue, {"more": CLEAR, "less": (67.0, 68.2, 69.1)}, metric="accuracy").settings
    assert [setting.verdict for setting in settings] == [FAILS, HOLDS]
    assert settings[0].pair.sentence == (
        "test/accuracy of Selfish is 0.97 points below that of RigL in the mean over seeds 1-3 "
        "(95 % interval of the difference -1.11 points to -0.82 points, paired): RigL is better."
    )


def test_a_margin_asks_for_no_worse_than_that(catalogue) -> None:
    near, far = (68.5, 69.6, 70.4), (64.0, 65.1, 66.0)
    assert [setting.verdict for setting in claim(catalogue, {"near": near, "far": far}, margin=1.0).settings] == [
        HOLDS,
        FAILS,
    ]


def test_the_sentence_of_a_pair(catalogue) -> None:
    made = claim(catalogue, {"clear": CLEAR, "same": (69.5, 69.8, 71.1), "one": (72.0,), "inf": (float("inf"),) * 3})
    said = [setting.pair.sentence for setting in made.settings]
    assert said[0].endswith("paired): Selfish is better.")
    assert said[1].endswith("paired): these seeds cannot tell them apart.")
    assert (
        said[2]
        == "test/perplexity of Selfish is 3.00 below that of RigL in the mean over seed 1; one seed gives no interval."
    )
    assert said[3] == "A run diverged: Selfish and RigL have no difference over seeds 1-3."
    pair = pair_of(made.gathered, made.gathered.spec.blocks[0], "valid/perplexity")
    assert dict(pair.by_seed[0]) == {1: 71.0, 2: 72.1, 3: 73.0}
    with pytest.raises(ConfigError, match=r"has no test/perplexitx \(did you mean test/perplexity or"):
        pair_of(made.gathered, made.gathered.spec.blocks[0], "test/perplexitx")


def test_the_page_says_for_each_setting_how_large_and_how_sure(catalogue) -> None:
    made = page.text([claim(catalogue, {"clear": CLEAR})], "made by {}".format)
    assert (
        "| clear   | Selfish: 70.03 ± 1.00 | RigL: 71.00 ± 1.00 |          -0.97 | -1.11 to -0.82 |   1-3 | **holds** |"
        in made
    )
    assert "- Verdict: holds." in made
    assert "Made by: made by own" in made


def test_the_forest_has_a_line_for_each_setting_with_runs(catalogue) -> None:
    both = [
        claim(catalogue, {"clear": CLEAR, "one": (72.0,), "none": ()}),
        claim(catalogue, {"more": CLEAR}, metric="accuracy"),
    ]
    drawing = forest.draw(both)
    perplexity, accuracy = drawing.figure.axes
    assert [label.get_text() for label in perplexity.get_yticklabels()] == [
        "clear: Selfish, RigL",
        "one: Selfish, RigL",
    ]
    ends = [
        list(line.get_xdata()) for line in perplexity.lines if len(line.get_xdata()) == 2 and line.get_linewidth() > 1
    ]
    assert ends == [[pytest.approx(-1.11, abs=0.01), pytest.approx(-0.82, abs=0.01)]]
    assert accuracy.lines[1].get_xdata() == pytest.approx([0.97], abs=0.01)  # in points, to the right where it is worse
    assert "in points of accuracy" in texts(drawing.figure)
    assert list(drawing.data["verdict"]) == [HOLDS, OPEN, UNTRIED, FAILS]


@pytest.mark.parametrize("name", names("finding"))
def test_every_declared_finding_composes(name, catalogue) -> None:
    spec = load(name)
    made = Claim(gathered_for(spec, catalogue, lambda planned: None))
    assert {setting.verdict for setting in made.settings} == {UNTRIED}
    assert len({run.run_id for run in made.gathered.planned}) >= 2 * len(spec.seeds)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("rows: [{label: a, with: [seed=1]}, {label: b}]", "must not set seed"),
        ("rows: [{label: a}]", "block 'x' must have two rows with runs, and no x"),
        ("rows: [{label: a}, {label: b, reported: true}]", "block 'x' must have two rows with runs, and no x"),
    ],
)
def test_a_finding_compares_two_rows(wrong, said, tmp_path, monkeypatch) -> None:
    folder = tmp_path / "finding"
    folder.mkdir()
    (folder / "own.yaml").write_text(f"title: t\nsource: s\nseeds: [1]\nblocks: [{{label: x, {wrong}}}]\n")
    monkeypatch.setenv("SPARSE_RNN_CONF", str(tmp_path))
    with pytest.raises(ConfigError, match=said):
        load("own")


def run_command(monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["results", *words])
    with pytest.raises(SystemExit) as left:
        command.main()
    return int(left.value.code or 0)


COMMON = ("dataset=pydoc", "budget=smoke", "seeds=1,2", "--source", "records")


@pytest.fixture
def own_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SPARSE_RNN_RUNS", str(tmp_path))


@pytest.mark.usefixtures("own_runs")
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["seeds=1", "sparsifier=set"], "compare needs two sets of overrides"),
        (["sparsifier=set", "sparsifier=rigl", "nonsense"], "nonsense is none"),
        (["sparsifier=set", "sparsifier=set"], "are the same runs"),
        (["sparsifier='set", "sparsifier=rigl"], "cannot be read"),
        (
            ["sparsifier=set", "sparsifier=rigl"],
            "launch submit --sweep 'sparsifier=set seed=1,2' dataset=pydoc budget=smoke",
        ),
    ],
)
def test_what_compare_refuses(words, said, monkeypatch, capsys) -> None:
    common = COMMON if len(words) > 1 and "seeds=1" not in words else ()
    assert run_command(monkeypatch, "compare", *words, *common) in (2, 3)
    assert said in capsys.readouterr().err


@pytest.mark.usefixtures("own_runs")
def test_findings_without_runs_are_written_and_said_to_be_missing(monkeypatch, capsys, tmp_path) -> None:
    out = tmp_path / "made"
    assert run_command(monkeypatch, "findings", "uniform", "--source", "records", "--out", str(out)) == 3
    assert "12 of 12 runs of uniform have no result" in capsys.readouterr().err
    assert "no runs" in (out / "findings.md").read_text(encoding="utf-8")
    assert {path.name for path in out.iterdir()} == {
        "findings.md",
        "findings.png",
        "findings.svg",
        "findings.csv",
    }
    assert [line["verdict"] for line in csv.DictReader((out / "findings.csv").open())] == ["no runs", "no runs"]

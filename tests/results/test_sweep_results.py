"""Tables and figures of sweeps, without a file, of constructed runs whose numbers are known."""

import math
import re
from dataclasses import replace
from types import SimpleNamespace

import pytest
from constructed_runs import finished, texts

from results import commands
from results.figures import style
from results.figures.by_name import draw
from results.gathering import Gathered, plan_sweep
from results.requests import parse
from results.sources.logs import Logs
from results.sweeps import Sweep, axis_of, missing_note
from results.tables.by_name import make_table
from results.tables.layout import _commits
from results.tables.render import html, latex, markdown
from sparse_rnn.core.errors import ConfigError

SMOKE = ("dataset=pydoc", "budget=smoke")
TWO_KEYS = ["sparsifier.sparsity=0.5,0.9", "sparsifier.removal_rate=0.3,0.5", "seed=1,2"]


def score(planned):
    """Perplexities that depend on what is swept: 100 times the sparsity, plus the seed."""
    return 100 * planned.facts.config["sparsifier"]["sparsity"] + planned.seed


def logged(planned):
    """A finished run, with its score in every epoch."""
    environment = {"commit": "c0ffee", "modified": False, "host": "here"}
    done = finished(planned, score(planned), **{"best/active_parameters": 1234567, "clock/finished": 1767225600.0})
    rows = [
        {"step": 3 * k, "epoch": k, "valid/loss": 4.0, "valid/perplexity": score(planned) + 9 - k} for k in (1, 2, 3)
    ]
    return replace(done, provenance={"environment": environment, "device": "cpu"}, read=lambda: [*rows, done.final])


@pytest.fixture(scope="module")
def swept(catalogue):
    """A sweep with the runs that `there` chooses finished."""

    def gathered(swept, *, figure=False, there=lambda _: True, **more) -> Gathered:
        planned = plan_sweep(Sweep(swept, SMOKE, **more), catalogue, figure=figure)
        runs = {run.run_id: logged(run) for run in planned.planned if there(run)}
        return planned.with_logs(Logs("constructed", runs))

    return gathered


def text_of(gathered: Gathered) -> str:
    return markdown(make_table("sweep", gathered, "python -m results table --sweep ...").grid)


def rows_of(text: str) -> list[list[str]]:
    """The fields of the lines of a Markdown table, without the rule."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    return [[field.strip().replace("*", "") for field in line.strip("|").split("|")] for line in lines]


def test_one_key_makes_rows(swept):
    text = text_of(swept(["sparsifier.sparsity=0.5,0.9", "seed=range(1,3)"]))
    assert text.startswith("## Sweep over sparsity: stacked_lstm on pydoc\n\n|")
    head, *rows = rows_of(text)
    assert head == ["", "parameters", "valid", "test"]
    assert rows == [
        ["sparsity=0.5", "1.2M", "53.50 ± 0.71", "51.50 ± 0.71"],
        ["sparsity=0.9", "1.2M", "93.50 ± 0.71", "91.50 ± 0.71"],
    ]
    assert "Runs: 4 of 4 finished (the CSV has their ids), seeds 1-2" in text
    assert "Commit: c0ffee" in text
    assert "Made by: python -m results table --sweep" in text
    assert "paper" not in text.lower().replace("protocol: paper", "")


def test_two_keys_make_rows_and_columns(swept):
    _, *lines = rows_of(text_of(swept(TWO_KEYS)))
    names, *rows = lines
    assert names == ["", *["parameters", "valid", "test"] * 2]
    assert [row[0] for row in rows] == ["sparsity=0.5", "sparsity=0.9"]
    assert rows[0][3] == rows[0][6] == "51.50 ± 0.71"


@pytest.mark.parametrize(
    ("keys", "blocks", "rows"),
    [
        (["seed=1,2"], [""], ["stacked_lstm, selfish"]),
        (
            ["sparsifier=set,rigl", "optimizer.lr=1,2,3,4,5"],
            ["sparsifier=set", "sparsifier=rigl"],
            "lr=1 lr=2 lr=3 lr=4 lr=5",
        ),
        (
            ["sparsifier=set,rigl", "optimizer.lr=1,2", "sparsifier.sparsity=0.5,0.9"],
            ["sparsity=0.5", "sparsity=0.9"],
            [f"sparsifier={name} lr={lr}" for name in ("set", "rigl") for lr in (1, 2)],
        ),
        (["optimizer.lr=1,2,1", "sparsifier.sparsity=0.5"], [""], "lr=1 lr=2"),
    ],
)
def test_rows_and_columns_are_chosen_sensibly(swept, keys, blocks, rows):
    spec = swept(keys).spec
    assert [block.label for block in spec.blocks] == blocks
    assert [row.label for row in spec.blocks[0].rows] == (rows.split() if isinstance(rows, str) else rows)


def test_the_runs_are_those_that_launch_sends(swept, tmp_path):
    from launch.requests import entries
    from launch.requests import parse as parse_launch
    from sparse_rnn.tables.catalogue import Catalogue

    sent = entries(parse_launch("plan", ["--sweep", " ".join(TWO_KEYS), *SMOKE]), Catalogue(tmp_path))
    planned = swept(TWO_KEYS).planned
    assert {entry.run_id for entry in sent} == {run.run_id for run in planned}
    assert {entry.overrides for entry in sent} == {run.overrides for run in planned}


def test_what_is_missing_is_named_with_the_command_that_trains_it(swept):
    gathered = swept(TWO_KEYS, there=lambda run: run.seed == 1 or score(run) < 90)
    text = text_of(gathered)
    assert "(1/2 seeds)" in text
    [note] = [line for line in text.splitlines() if " are missing (" in line]
    assert (
        "2 of 8 runs are missing (sparsity=0.9 removal_rate=0.3, seed 2; sparsity=0.9 removal_rate=0.5, seed 2)" in note
    )
    command = f"python -m launch submit --sweep '{' '.join(TWO_KEYS)}' dataset=pydoc budget=smoke"
    assert f": train them with `{command}`." in note
    assert any(command in note for note in draw("sweep", swept(TWO_KEYS, figure=True, there=lambda _: False)).notes)
    many = swept(["optimizer.lr=range(1,31)"], there=lambda _: False)
    assert "; 20 more): train them" in missing_note(many.missing, many.planned, many.training)


def test_own_files_are_called_by_their_label(catalogue, tmp_path):
    own = [f"dataset.{split}={tmp_path / split}" for split in ("train", "valid", "test")]
    for name in ("train", "valid", "test"):
        (tmp_path / name).write_text("the cat sat\n" * 30)
    sweep = Sweep(["seed=1,2"], ("dataset=text", "dataset.label=cats", *own, "budget=smoke"))
    made = make_table("sweep", plan_sweep(sweep, catalogue, figure=False).with_logs(Logs("constructed", {})), "command")
    assert made.grid.title == "Sweep over seeds: stacked_lstm on cats"


def test_a_caption_ends_once(swept):
    grid = make_table("sweep", swept(TWO_KEYS), "command").grid
    for title, caption in (("Does it help?", "Does it help?"), ("It helps", "It helps.")):
        assert rf"\caption{{{caption}}}" in latex(replace(grid, title=title))


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({"commit": "c0ffee" * 4, "modified": True}, "c0ffeec+"),
        ({"commit": None, "modified": None, "packages": {"sparse-rnn": "0.2"}}, "none (sparse-rnn 0.2, installed)"),
        ({"commit": None, "modified": None}, "unknown"),
    ],
)
def test_the_code_of_runs_is_named_by_its_commit_or_version(environment, shown):
    assert _commits([SimpleNamespace(provenance={"environment": environment})]) == [shown]


def test_every_format(swept):
    made = make_table("sweep", swept(TWO_KEYS), "command")
    assert "After" not in latex(made.grid) + html(made.grid)
    assert r"\caption{Sweep over sparsity, removal\_rate: stacked\_lstm on pydoc.}" in latex(made.grid)
    assert made.csv.splitlines()[1].startswith("sweep,removal_rate=0.3,sparsity=0.5,parameters,1234567.0,0.0,2,2,")


def test_a_figure_over_the_number_that_is_swept(swept, tmp_path):
    drawing = draw("sweep", swept(["sparsifier=set,rigl", "sparsifier.sparsity=0.5,0.7,0.9", "seed=1,2"], figure=True))
    data = drawing.data
    assert data["row"].unique().tolist() == ["sparsifier=set", "sparsifier=rigl"]
    assert data["x"].tolist() == [0.5, 0.7, 0.9] * 2
    assert data["mean"].tolist() == pytest.approx([51.5, 71.5, 91.5] * 2)
    assert data["std"].tolist() == pytest.approx([math.sqrt(0.5)] * 6)
    assert data["finished"].tolist() == [2] * 6
    assert "With budget smoke, protocol paper, dataset pydoc, n = 2 of 2 seeds." in drawing.notes
    shown = texts(drawing.figure)
    assert "test perplexity" in shown
    assert "compar" not in shown
    assert "Source" not in shown
    assert len(style.save(drawing.figure, data, tmp_path / "sweep")) == 3


def test_learning_curves_where_no_number_is_swept(swept):
    data = draw("sweep", swept(["sparsifier=set,rigl", "seed=1,2"], figure=True)).data
    assert data["epoch"].tolist() == [1, 2, 3] * 2
    assert data["metric"].unique().tolist() == ["valid perplexity"]
    own = swept(["sparsifier=set,rigl", "seed=1,2"], figure=True)
    expected = [sum(score(run) + 9 - epoch for run in own.planned[:2]) / 2 for epoch in (1, 2, 3)]
    assert data["mean"].tolist()[:3] == pytest.approx(expected)
    assert data["finished"].tolist() == [2] * 6


def test_learning_curves_on_demand_and_of_what_is_there(swept):
    keys = ["sparsifier.sparsity=0.5,0.9", "seed=1,2"]
    drawing = draw("sweep", swept(keys, figure=True, x="epoch", there=lambda run: run.seed == 1))
    assert drawing.data["row"].unique().tolist() == ["sparsity=0.5", "sparsity=0.9"]
    assert drawing.data["std"].isna().all()
    assert any("n = 1 of 2" in note for note in drawing.notes)
    nothing = draw("sweep", swept(keys, figure=True, x="epoch", there=lambda _: False))
    assert "no finished run" in texts(nothing.figure)


VALUES = {"sparsifier": ["set", "rigl"], "optimizer.lr": ["1", "2", "3"], "sparsifier.sparsity": ["0.5", "0.9"]}
CONFIG = {"sparsifier": {"name": "set", "sparsity": 0.5}, "optimizer": {"lr": 1.0}}


@pytest.mark.parametrize(
    ("asked", "axis"),
    [
        (None, "optimizer.lr"),
        ("lr", "optimizer.lr"),
        ("sparsity", "sparsifier.sparsity"),
        ("sparsifier.sparsity", "sparsifier.sparsity"),
        ("epoch", None),
    ],
)
def test_the_axis_of_a_figure(asked, axis):
    assert axis_of(asked, VALUES, [CONFIG]) == axis


@pytest.mark.parametrize(
    ("command", "arguments", "sentence"),
    [
        ("table", ["--sweep", ""], r"--sweep needs a value\."),
        ("table", ["--sweep"], r"--sweep needs a value\."),
        ("table", ["--sweep", "sparsifier='set"], r"--sweep .* cannot be read .*"),
        ("table", [], r"Which table\? .* or --sweep '\.\.\.'\."),
        ("table", ["--sweep", "seed=1", "--x", "lr"], r"table does not know --x.*"),
        (
            "figure",
            ["figure5", "--x", "lr"],
            r"--x lr chooses what a sweep is drawn over: give --sweep '\.\.\.' as well\.",
        ),
        ("site", ["--sweep", "seed=1"], r"site does not know --sweep.*"),
        ("table", ["--sweep", "sparsifier=set,setty", *SMOKE], r"sparsifier=setty: sparsifier=setty does not exist .*"),
        ("table", ["--sweep", "seed=range(1"], r"The override .* cannot be read: .*"),
        ("table", ["--sweep", "seed=range(3,3)"], r"seed=range\(3,3\) has no value: .*"),
        ("table", ["--sweep", "seed=range(0,100000)"], r"That would be 100,000 runs: .*"),
        (
            "figure",
            ["--sweep", "sparsifier=set,rigl", "--x", "lr", *SMOKE],
            r"--x lr is no number .* \(choose from epoch\)\.",
        ),
    ],
)
def test_mistakes_are_one_sentence(command, arguments, sentence):
    with pytest.raises(ConfigError) as refusal:
        getattr(commands, command)(parse(command, arguments))
    assert re.fullmatch(sentence, str(refusal.value)), str(refusal.value)


def test_a_command_line_can_be_repeated():
    request = parse("table", ["--sweep", "seed=1,2 sparsifier=set,rigl", "dataset=pydoc", "--sweep=optimizer.lr=1,2"])
    words = request.words("sweep")
    assert words == ["--sweep", "seed=1,2 sparsifier=set,rigl optimizer.lr=1,2"]
    assert parse("table", [*words, *request.arguments]).sweep == request.sweep


def test_a_sweep_stands_beside_named_tables():
    request = parse("table", ["table6", "--sweep", "seed=1,2", "seeds=3"])
    assert request.asked == ["table6", "sweep"]
    assert request.sweep.seeds == [3]


def test_seeds_beside_a_sweep_replace_its_own(swept):
    gathered = swept(["sparsifier.sparsity=0.5,0.9", "seed=1,2"], seeds=[2, 3])
    assert sorted(run.seed for run in gathered.planned) == [2, 2, 3, 3]

"""Figures drawn from constructed runs, whose numbers are known."""

import json
import math
import random

import pytest
from matplotlib.colors import to_rgb

from results.figures import style
from results.figures.catalogue import NAMES, draw
from results.figures.curves import draw as draw_curves
from results.figures.gates import draw_gates_over_time, final_gates, gate_means, gates_over_time
from results.figures.large_weights import large_weights
from results.figures.panels import warning
from results.figures.points import crossings, points
from results.figures.weight_names import input_weights, short_names
from results.gathering import Asked
from results.sources.logs import LoggedRun, Logs
from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.tables.catalogue import Catalogue
from sparse_rnn.tables.declaration import Axis, Block, Row, TableSpec, load
from sparse_rnn.tables.expansion import expand
from sparse_rnn.training.session import train

FROM_RUNS = [name for name in NAMES if name not in ("figure1", "figure2")]
INPUT, RECURRENT = "layers.0.input.weight", "layers.0.recurrent.weight"


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    return Catalogue(tmp_path_factory.mktemp("catalogue"))


def finished(planned, score=70.0, metric="perplexity", **more):
    """A run that ended with this test score; its gates are those of an ON-LSTM, whatever its model."""
    sparsity = planned.facts.config["sparsifier"]["sparsity"]
    final = {
        "step": 9,
        "epoch": 3,
        "best/valid/loss": 4.0,
        f"best/valid/{metric}": score + 2,
        f"best/test/{metric}": score,
        "averaging/trigger_epoch": 1,
        "averaging/forced": 0.0,
        "best/averaged": 1,
        "best/sparsity/model": sparsity,
        f"best/sparsity/{INPUT}": sparsity,
        f"best/sparsity/{INPUT}/forget": 0.7,
        f"best/sparsity/{INPUT}/cell": 0.5,
        f"best/sparsity/{RECURRENT}/forget": 0.6,
        **more,
    }
    rows = [
        {"step": 1, "train/loss": 5.0},
        *({"step": epoch * 3, "epoch": epoch, "valid/loss": 4.0, **_weights(epoch)} for epoch in (1, 2, 3)),
        final,
    ]
    return LoggedRun(planned.run_id, planned.facts.config, {}, "finished", final, "", lambda: rows)


def _weights(epoch):
    return {
        f"large_weights/raw/{INPUT}": 100 * epoch,
        f"large_weights/evaluated/{INPUT}": 90 * epoch,
        f"large_weights/raw/{RECURRENT}": 7,
        f"large_weights/evaluated/{RECURRENT}": 7,
        f"sparsity/{INPUT}": 0.6,
        f"sparsity/{INPUT}/forget": 0.6 + epoch / 100,
        "sparsity/model": 0.6,
    }


def asked_for(spec, catalogue, run=finished, *, seeds=None, overrides=()):
    """Every planned run as `run` makes it; None is no run."""
    planned = expand(spec, catalogue.facts, seeds=seeds, overrides=overrides)
    runs = {each.run_id: made for each in planned if (made := run(each)) is not None}
    return Asked(spec, planned, Logs("constructed", runs), tuple(overrides), as_declared=not overrides)


def own_figure(*blocks, seeds=(1,), name="own"):
    return TableSpec(name, "A figure of one's own", "nowhere", (), seeds, (), blocks)


def over_sparsity(*values):
    rows = (
        Row("Selfish", ("sparsifier=selfish",)),
        Row("Dense", ("sparsifier=dense", "optimizer=nt_asgd"), line=True),
    )
    return Block("Sparsity", rows, x=Axis("sparsifier.sparsity", values))


def texts(figure):
    return " ".join(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))


def test_points_are_means_over_seeds(catalogue):
    scores = {(0.5, 1): 70.0, (0.5, 2): 72.0, (0.8, 1): 76.0, (None, 1): 73.0, (None, 2): 73.0}

    def run(planned):
        score = scores.get((planned.x, planned.seed))
        return None if score is None else finished(planned, score)

    data = points(asked_for(own_figure(over_sparsity(0.5, 0.8)), catalogue, run, seeds=(1, 2)))
    assert data["row"].tolist() == ["Selfish", "Selfish", "Dense"]
    assert data["x"].tolist()[:2] == [0.5, 0.8]
    assert math.isnan(data["x"][2])
    assert data["sparsity"].tolist() == [0.5, 0.8, 0.0]
    assert data["mean"].tolist() == [71.0, 76.0, 73.0]
    assert data["std"].tolist() == pytest.approx([math.sqrt(2), math.nan, 0.0], nan_ok=True)
    assert data["finished"].tolist() == [2, 1, 2]
    assert set(data["planned"]) == {2}
    assert set(data["metric"]) == {"test perplexity"}


def test_the_share_of_parameters_that_matches_dense_is_in_data_panel_and_note(catalogue):
    scores = {0.5: 70.0, 0.6: 70.0, 0.8: 74.0, None: 72.0}
    asked = asked_for(own_figure(over_sparsity(0.5, 0.6, 0.8)), catalogue, lambda each: finished(each, scores[each.x]))
    match = crossings(asked, points(asked)).iloc[0]
    assert match["sparsity"] == pytest.approx(0.7)
    assert match["mean"] == 72.0
    drawing = draw_curves(asked)
    assert drawing.data["metric"].tolist()[-1] == "test perplexity, as good as dense"
    assert drawing.notes == ("Sparsity: share of the parameters with which it is as good as dense: Selfish 30%.",)
    assert "30%" in texts(drawing.figure)


@pytest.mark.parametrize(("score", "words"), [(60.0, "Selfish at most 20%."), (90.0, "Selfish more than 50%.")])
def test_a_crossing_beyond_the_points_is_a_bound(catalogue, score, words):
    figure = own_figure(over_sparsity(0.5, 0.8))
    asked = asked_for(figure, catalogue, lambda each: finished(each, 72.0 if each.row == "Dense" else score))
    assert draw_curves(asked).notes[0].endswith(words)


def test_of_accuracies_the_higher_is_the_better(catalogue):
    scores = {0.5: 0.8, 0.6: 0.8, 0.8: 0.7, None: 0.75}
    block = over_sparsity(0.5, 0.6, 0.8)
    classify = ("model=lstm_classifier", "dataset=sanders_twitter", "optimizer=adam")
    spec = TableSpec("own", "own", "own", (), (1,), classify, (_without_optimizer(block),))
    asked = asked_for(spec, catalogue, lambda each: finished(each, scores[each.x], "accuracy"))
    data = points(asked)
    assert set(data["metric"]) == {"test accuracy"}
    assert crossings(asked, data)["sparsity"].tolist() == pytest.approx([0.7])


def _without_optimizer(block):
    rows = tuple(Row(row.label, row.overrides[:1], line=row.line) for row in block.rows)
    return Block(block.label, rows, x=block.x)


def test_what_diverged_does_not_squash_the_others(catalogue):
    scores = {0.5: 70.0, 0.8: 75.0, 0.9: 1e9, None: math.nan}
    asked = asked_for(own_figure(over_sparsity(0.5, 0.8, 0.9)), catalogue, lambda each: finished(each, scores[each.x]))
    drawing = draw_curves(asked)
    assert drawing.figure.axes[0].get_ylim()[1] < 100
    assert "1e9" in texts(drawing.figure)
    assert "diverged" in texts(drawing.figure)
    assert 1e9 in drawing.data["mean"].tolist()


def test_epsilon_is_shown_with_its_sparsity(catalogue):
    asked = asked_for(
        load("st_figure3"), catalogue, lambda each: finished(each, 0.7, "accuracy", **{"best/sparsity/model": 0.914})
    )
    twitter = draw_curves(asked).figure.axes[0]
    assert "20\n91.4%" in [label.get_text() for label in twitter.get_xticklabels()]
    assert twitter.get_xscale() == "log"


def test_texts_on_x_stand_side_by_side_in_the_order_of_the_file(catalogue):
    scopes = Axis("sparsifier.scope", ("gate", "tensor", "cell"))
    asked = asked_for(own_figure(Block("Scope", (Row("Selfish", ("sparsifier=selfish",)),), x=scopes)), catalogue)
    axes = draw("own", asked).figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["gate", "tensor", "cell"]


def test_a_figure_of_ones_own_without_x_has_a_bar_a_row(catalogue):
    rows = (Row("Selfish", ("sparsifier=selfish",)), Row("RigL", ("sparsifier=rigl",)), Row("Reported", reported=True))
    asked = asked_for(own_figure(Block("Methods", rows)), catalogue, lambda each: finished(each, 71.25))
    drawing = draw("own", asked)
    axes = drawing.figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Selfish", "RigL"]
    assert [bar.get_width() for bar in axes.patches] == [71.25, 71.25]
    assert drawing.data["mean"].tolist() == [71.25, 71.25]


def test_large_weights_are_counted_by_epoch_for_input_weights_only(catalogue):
    asked = asked_for(load("figure3"), catalogue, lambda each: finished(each, **{"averaging/trigger_epoch": 2}))
    data = large_weights(asked)
    own = data[data["row"] == "NT-ASGD"]
    assert own["weight"].tolist() == [INPUT] * 3
    assert own["epoch"].tolist() == [1, 2, 3]
    assert own["evaluated"].tolist() == [90, 180, 270]
    assert own["raw"].tolist() == [100, 200, 300]
    assert own["trigger"].tolist() == [2, 2, 2]
    assert "Averaging begins after epoch 2 (SNT-ASGD), 2 (NT-ASGD)." in draw("figure3", asked).notes


def test_gates_at_the_end_and_over_time(catalogue):
    asked = asked_for(load("figure10"), catalogue, seeds=(1, 2))
    run = next(iter(asked.logs.runs.values()))
    gates = [(INPUT, "forget", 0.7), (INPUT, "cell", 0.5), (RECURRENT, "forget", 0.6)]
    assert list(final_gates(run).itertuples(index=False, name=None)) == gates
    over_time = gates_over_time(run)
    assert over_time["epoch"].tolist() == [1, 2, 3]
    assert over_time["sparsity"].tolist() == pytest.approx([0.61, 0.62, 0.63])
    means = gate_means(asked)
    rhn = means[means["panel"] == "RHN"]
    assert rhn["weight"].tolist() == [INPUT, INPUT, RECURRENT, "model"]
    assert rhn["sparsity"].tolist() == pytest.approx([0.7, 0.5, 0.6, 0.528])
    assert rhn["finished"].tolist() == [2] * 4


def test_the_order_of_keys_in_the_log_does_not_matter(catalogue):
    (planned,) = expand(own_figure(Block("One", (Row("Selfish", ("model=rhn",)),))), catalogue.facts)
    run = finished(planned)
    keys = list(run.final)
    random.Random(3).shuffle(keys)
    shuffled = {key: run.final[key] for key in keys}
    other = LoggedRun(run.run_id, run.config, {}, "finished", shuffled, "", lambda: [shuffled])
    assert list(shuffled) != list(run.final)
    assert final_gates(other).equals(final_gates(run))


def test_weights_are_called_as_in_the_papers():
    lstm = ["lstm.weight_ih_l0", "lstm.weight_hh_l0", "lstm.weight_ih_l1", "lstm.weight_hh_l1"]
    assert list(short_names(reversed(lstm)).items()) == list(zip(lstm, ["ih1", "hh1", "ih2", "hh2"], strict=True))
    layers = [f"layers.{layer}.input.weight" for layer in range(11)]
    assert list(short_names(sorted(layers)).items())[-1] == ("layers.10.input.weight", "ih11")
    rhn = ["highway.input.weight", "highway.recurrent.0.weight", "highway.recurrent.1.weight"]
    assert list(short_names(rhn).values()) == ["W", "R1", "R2"]
    assert short_names(["cell.kernel"]) == {"cell.kernel": "cell.kernel"}
    assert input_weights([*lstm, *rhn, "embedding.weight"]) == [rhn[0], lstm[0], lstm[2]]


@pytest.mark.parametrize("model", ["stacked_lstm", "rhn", "on_lstm", "awd_lstm_mos"])
def test_gates_of_a_trained_run(model, tmp_path):
    overrides = [f"model={model}", "dataset=pydoc", "budget=smoke", "logger=files"]
    train(compose_run(overrides), overrides)
    (folder,) = (tmp_path / "runs").iterdir()
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    logged = LoggedRun(folder.name, {}, {}, "finished", rows[-1], str(folder), lambda: rows)
    gates, over_time = final_gates(logged), gates_over_time(logged)
    assert set(over_time["epoch"]) == {1, 2, 3, 4}
    assert len(over_time) == 4 * len(gates)
    kept = over_time[over_time["epoch"] == rows[-1]["best/epoch"]]
    assert kept[["weight", "gate"]].values.tolist() == gates[["weight", "gate"]].values.tolist()
    short = short_names(gates["weight"].unique())
    assert not set(short) & set(short.values())
    counted = {key.rpartition("/")[2] for key in rows[-2] if key.startswith("large_weights/")}
    assert set(input_weights(gates["weight"].unique())) <= counted
    drawing = draw_gates_over_time(logged)
    assert sum(axes.get_visible() for axes in drawing.figure.axes) == len(short)


def test_every_figure_that_needs_no_run(tmp_path):
    for name in ("figure1", "figure2"):
        drawing = draw(name)
        assert not drawing.data.empty
        assert [path.stat().st_size > 0 for path in style.save(drawing.figure, drawing.data, tmp_path / name)] == [
            True
        ] * 3


@pytest.mark.parametrize("name", FROM_RUNS)
@pytest.mark.parametrize("share", [1.0, 0.5, 0.0])
def test_every_figure_however_much_is_there(name, share, catalogue):
    chosen = random.Random(name)
    asked = asked_for(load(name), catalogue, lambda each: finished(each) if chosen.random() < share else None)
    drawing = draw(name, asked)
    if not share:
        assert drawing.data.empty
        assert "no finished run" in texts(drawing.figure)


def test_what_is_missing_and_failed_is_told(catalogue):
    def run(planned):
        if planned.x == 0.5:
            return None
        ok = finished(planned)
        return LoggedRun(ok.run_id, ok.config, {}, "failed", None, "", ok.read) if planned.x == 0.8 else ok

    asked = asked_for(own_figure(over_sparsity(0.5, 0.8, 0.9)), catalogue, run)
    assert "2 of 4 runs are missing, 1 of them failed." in draw_curves(asked).notes


def test_what_may_not_be_compared_with_the_paper_says_so(catalogue):
    spec = load("figure7")
    assert warning(asked_for(spec, catalogue)) == ""
    reduced = draw("figure7", asked_for(spec, catalogue, overrides=("budget=reduced",)))
    sentence = "With budget reduced, protocol official_code, dataset ptb: not comparable with the paper."
    assert reduced.notes[0] == sentence
    assert sentence in " ".join(texts(reduced.figure).split())
    assert any(note.startswith("The paper says, of its own runs (appendix I)") for note in reduced.notes)
    other = warning(asked_for(spec, catalogue, overrides=("model.hidden=700",)))
    assert other.endswith("dataset ptb, model.hidden=700: not comparable with the paper.")


def test_a_file_that_chooses_a_budget_itself_is_not_comparable(catalogue):
    rows = (Row("Selfish", ("sparsifier=selfish",)),)
    spec = TableSpec("own", "own", "own", (), (1,), ("budget=smoke",), (Block("Methods", rows),))
    assert "budget smoke" in warning(asked_for(spec, catalogue))


def test_figures_from_runs_need_them():
    with pytest.raises(ConfigError, match="figure5 is drawn from runs"):
        draw("figure5")


def test_the_same_data_give_the_same_bytes(catalogue, tmp_path):
    written = []
    for folder in ("first", "second"):
        drawing = draw("figure6", asked_for(load("figure6"), catalogue))
        paths = style.save(drawing.figure, drawing.data, tmp_path / folder / "figure6")
        written.append([path.read_bytes() for path in paths])
    assert written[0] == written[1]


def test_the_users_settings_do_not_change_a_figure(catalogue, tmp_path):
    import matplotlib as mpl

    asked = asked_for(own_figure(over_sparsity(0.5, 0.8)), catalogue)
    plain = draw("own", asked)
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "lines.linewidth": 9}):
        changed = draw("own", asked)
    paths = [style.save(each.figure, each.data, tmp_path / str(k))[0] for k, each in enumerate((plain, changed))]
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_neighbours_differ_without_colour():
    def luminance(color):
        red, green, blue = to_rgb(color)
        return 0.299 * red + 0.587 * green + 0.114 * blue

    for number in range(len(style.COLORS) - 1):
        one, other = style.line(number), style.line(number + 1)
        assert one["color"] != other["color"]
        assert one["linestyle"] != other["linestyle"]
        assert one["marker"] != other["marker"]
        assert style.bar(number)["hatch"] != style.bar(number + 1)["hatch"]
        assert abs(luminance(one["color"]) - luminance(other["color"])) > 0.1

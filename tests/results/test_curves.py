"""Curves, lines and bars drawn from constructed runs, whose numbers are known."""

import math

import pytest
from constructed_runs import finished, gathered_for, over_sparsity, own_figure, texts

from results.figures.by_name import draw
from results.figures.crossings import crossings
from results.figures.curves import draw as draw_curves
from results.figures.points import points
from sparse_rnn.tables.declaration import Axis, Block, Row, TableSpec, load


def test_points_are_means_over_seeds(catalogue):
    scores = {(0.5, 1): 70.0, (0.5, 2): 72.0, (0.8, 1): 76.0, (None, 1): 73.0, (None, 2): 73.0}

    def run(planned):
        score = scores.get((planned.x, planned.seed))
        return None if score is None else finished(planned, score)

    data = points(gathered_for(own_figure(over_sparsity(0.5, 0.8)), catalogue, run, seeds=(1, 2)))
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
    gathered = gathered_for(
        own_figure(over_sparsity(0.5, 0.6, 0.8)), catalogue, lambda each: finished(each, scores[each.x])
    )
    match = crossings(gathered, points(gathered)).iloc[0]
    assert match["sparsity"] == pytest.approx(0.7)
    assert match["mean"] == 72.0
    drawing = draw_curves(gathered)
    assert drawing.data["metric"].tolist()[-1] == "test perplexity, as good as dense"
    assert drawing.notes == ("Sparsity: share of the parameters with which it is as good as dense: Selfish 30%.",)
    assert "30%" in texts(drawing.figure)


@pytest.mark.parametrize(("score", "words"), [(60.0, "Selfish at most 20%."), (90.0, "Selfish more than 50%.")])
def test_a_crossing_beyond_the_points_is_a_bound(catalogue, score, words):
    figure = own_figure(over_sparsity(0.5, 0.8))
    gathered = gathered_for(figure, catalogue, lambda each: finished(each, 72.0 if each.row == "Dense" else score))
    assert draw_curves(gathered).notes[0].endswith(words)


def test_of_accuracies_the_higher_is_the_better(catalogue):
    scores = {0.5: 0.8, 0.6: 0.8, 0.8: 0.7, None: 0.75}
    block = over_sparsity(0.5, 0.6, 0.8)
    classify = ("model=lstm_classifier", "dataset=sanders_twitter", "optimizer=adam")
    spec = TableSpec("own", "own", "own", (), (1,), classify, (_without_optimizer(block),))
    gathered = gathered_for(spec, catalogue, lambda each: finished(each, scores[each.x], "accuracy"))
    data = points(gathered)
    assert set(data["metric"]) == {"test accuracy"}
    assert crossings(gathered, data)["sparsity"].tolist() == pytest.approx([0.7])


def _without_optimizer(block):
    rows = tuple(Row(row.label, row.overrides[:1], line=row.line) for row in block.rows)
    return Block(block.label, rows, x=block.x)


def test_what_diverged_does_not_squash_the_others(catalogue):
    scores = {0.5: 70.0, 0.8: 75.0, 0.9: 1e9, None: math.nan}
    gathered = gathered_for(
        own_figure(over_sparsity(0.5, 0.8, 0.9)), catalogue, lambda each: finished(each, scores[each.x])
    )
    drawing = draw_curves(gathered)
    assert drawing.figure.axes[0].get_ylim()[1] < 100
    assert "1e9" in texts(drawing.figure)
    assert "diverged" in texts(drawing.figure)
    assert 1e9 in drawing.data["mean"].tolist()


def test_epsilon_is_shown_with_its_sparsity(catalogue):
    gathered = gathered_for(
        load("st_figure3"), catalogue, lambda each: finished(each, 0.7, "accuracy", **{"best/sparsity/model": 0.914})
    )
    twitter = draw_curves(gathered).figure.axes[0]
    assert "20\n91.4%" in [label.get_text() for label in twitter.get_xticklabels()]
    assert twitter.get_xscale() == "log"


def test_texts_on_x_stand_side_by_side_in_the_order_of_the_file(catalogue):
    scopes = Axis("sparsifier.scope", ("gate", "tensor", "cell"))
    gathered = gathered_for(own_figure(Block("Scope", (Row("Selfish", ("sparsifier=selfish",)),), x=scopes)), catalogue)
    axes = draw("own", gathered).figure.axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["gate", "tensor", "cell"]


def test_a_figure_of_ones_own_without_x_has_a_bar_a_row(catalogue):
    rows = (Row("Selfish", ("sparsifier=selfish",)), Row("RigL", ("sparsifier=rigl",)), Row("Reported", reported=True))
    gathered = gathered_for(own_figure(Block("Methods", rows)), catalogue, lambda each: finished(each, 71.25))
    drawing = draw("own", gathered)
    axes = drawing.figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["Selfish", "RigL"]
    assert [bar.get_width() for bar in axes.patches] == [71.25, 71.25]
    assert drawing.data["mean"].tolist() == [71.25, 71.25]

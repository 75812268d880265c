"""Every figure, however many of its runs are there, and what it says of them."""

import random

import pytest
from constructed_runs import finished, gathered_for, over_sparsity, own_figure, texts

from results.figures import style
from results.figures.by_name import FROM_RUNS, draw
from results.figures.curves import draw as draw_curves
from results.figures.panels import warning
from results.sources.logs import LoggedRun
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.tables.declaration import Block, Row, TableSpec, load


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
    gathered = gathered_for(load(name), catalogue, lambda each: finished(each) if chosen.random() < share else None)
    drawing = draw(name, gathered)
    if not share:
        assert drawing.data.empty
        assert "no finished run" in texts(drawing.figure)


def test_what_is_missing_and_failed_is_told(catalogue):
    def run(planned):
        if planned.x == 0.5:
            return None
        ok = finished(planned)
        return LoggedRun(ok.run_id, ok.config, {}, "failed", None, "", ok.read) if planned.x == 0.8 else ok

    gathered = gathered_for(own_figure(over_sparsity(0.5, 0.8, 0.9)), catalogue, run)
    assert "2 of 4 runs are missing, 1 of them failed." in draw_curves(gathered).notes


def test_what_may_not_be_compared_with_the_paper_says_so(catalogue):
    spec = load("figure7")
    assert warning(gathered_for(spec, catalogue)) == ""
    reduced = draw("figure7", gathered_for(spec, catalogue, overrides=("budget=reduced",)))
    sentence = "With budget reduced, protocol official_code, dataset ptb: not comparable with the paper."
    assert reduced.notes[0] == sentence
    assert sentence in " ".join(texts(reduced.figure).split())
    assert any(note.startswith("The paper says, of its own runs (appendix I)") for note in reduced.notes)
    other = warning(gathered_for(spec, catalogue, overrides=("model.hidden=700",)))
    assert other.endswith("dataset ptb, model.hidden=700: not comparable with the paper.")


def test_a_file_that_chooses_a_budget_itself_is_not_comparable(catalogue):
    rows = (Row("Selfish", ("sparsifier=selfish",)),)
    spec = TableSpec("own", "own", "ST-RNN (NCAA 2021)", (), (1,), ("budget=smoke",), (Block("Methods", rows),))
    assert "budget smoke" in warning(gathered_for(spec, catalogue))


def test_a_figure_of_one_s_own_speaks_of_no_paper(catalogue):
    rows = (Row("Selfish", ("sparsifier=selfish",)),)
    spec = TableSpec("own", "own", "own", (), (1,), ("budget=smoke",), (Block("Methods", rows),))
    gathered = gathered_for(spec, catalogue)
    assert warning(gathered) == ""
    notes = draw_curves(gathered).notes
    assert "With budget smoke, protocol paper, dataset ptb." in notes
    assert not [note for note in notes if "the paper" in note]


def test_figures_from_runs_need_them():
    with pytest.raises(ConfigError, match="figure5 is drawn from runs"):
        draw("figure5")

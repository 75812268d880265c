"""Figures 4, 8 and 9: from real runs of seconds, from made-up snapshots, and what they say of what is missing."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from results.figures.by_name import draw
from results.figures.distance_curves import COLUMNS
from results.figures.style import save
from results.gathering import Gathered
from results.sources.logs import LoggedRun, Logs
from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.tables.catalogue import Catalogue
from sparse_rnn.tables.declaration import load
from sparse_rnn.tables.expansion import expand
from sparse_rnn.training.session import train

SMOKE = ("dataset=pydoc", "budget=smoke", "logger=files", "threads=1", "device=cpu")
PLACES = {"lstm.weight_ih_l0": 0, "lstm.weight_hh_l0": 0, "lstm.weight_ih_l1": 1, "lstm.weight_hh_l1": 1}
WEIGHTS = ["ih1", "hh1", "ih2", "hh2"]
PAST, PAIR = "One network over time", "Same initialization"
UNITS = 6


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return Catalogue(tmp_path_factory.mktemp("catalogue"))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Where runs live in a test."""
    return tmp_path / "runs"


def gathered(
    catalogue: Catalogue,
    root: Path,
    name: str,
    overrides: Sequence[str] = SMOKE,
    seeds: tuple[int, ...] | None = None,
    without: Sequence[int] = (),
    link: str = "",
) -> Gathered:
    """A figure with logs of all its runs but those of some seeds, as if they lay in `root`, or at `link`."""
    spec = load(name)
    planned = expand(spec, catalogue.facts, seeds=seeds, overrides=overrides)
    runs = {}
    for each in planned:
        if each.seed not in without:
            where = f"{link}/{each.run_id}" if link else str(root / each.run_id / "wandb" / "offline-run-1")
            final = {"best/valid/loss": 1.0}
            runs[each.run_id] = LoggedRun(each.run_id, each.facts.config, {}, "finished", final, where, list)
    return Gathered(spec, planned, Logs("runs", runs), tuple(overrides), as_declared=not overrides)


def store(root: Path, run_id: str, masks: Sequence[np.ndarray]) -> None:
    """Snapshots of a made-up run: after epoch k its four masks are all masks[k - 1], its states always the same."""
    folder = RunFolder(root / run_id).snapshots
    folder.mkdir(parents=True)
    states = np.random.default_rng(1).standard_normal((50, UNITS)).astype(np.float16)
    for epoch, mask in enumerate(masks, 1):
        tensors = {f"mask/{name}": np.packbits(mask) for name in PLACES} | {f"hidden/{k}": states for k in (0, 1)}
        shapes = {f"shape/{name}": "x".join(map(str, mask.shape)) for name in PLACES}
        save_file(tensors, folder / f"epoch{epoch:04d}.safetensors", shapes)


def half(*, first: bool) -> np.ndarray:
    """Every row has the first, or the other, half of the inputs."""
    mask = np.zeros((4 * UNITS, UNITS), bool)
    mask[:, : UNITS // 2] = first
    mask[:, UNITS // 2 :] = not first
    return mask


A, B = half(first=True), half(first=False)


def texts(figure: object) -> list[str]:
    """What stands in the panels of a figure."""
    return [text.get_text() for axes in figure.axes for text in axes.texts]  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, catalogue: Catalogue) -> Path:
    """The two runs of Figure 4, really trained."""
    root = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSE_RNN_RUNS", str(root))
        for overrides in {
            each.run_id: each.overrides for each in gathered(catalogue, root, "figure4").planned
        }.values():
            train(compose_run(overrides), list(overrides))
    return root


def test_figure_4_of_real_runs(trained: Path, catalogue: Catalogue) -> None:
    drawing = draw("figure4", gathered(catalogue, trained, "figure4"))
    data = drawing.data
    assert list(data.columns) == list(COLUMNS)
    past = data[data["panel"] == PAST]
    assert set(past["first_epoch"]) == {1}
    assert past["second_epoch"].tolist() == [epoch for epoch in (1, 2, 3, 4) for _ in WEIGHTS]
    assert past["weight"].tolist() == 4 * WEIGHTS
    assert (past[past["second_epoch"] == 1]["distance"] == 0).all()
    assert past[past["second_epoch"] > 1]["distance"].between(0, 1, inclusive="right").all()
    pair = data[data["panel"] == PAIR]
    assert (pair["first"] != pair["second"]).all()
    assert (pair["first_epoch"] == pair["second_epoch"]).all()
    assert pair["distance"].between(0, 1, inclusive="right").all()
    assert data["chance"].between(0.75, 0.85).all()
    assert any("distance to epoch 1 instead of 5" in note for note in drawing.notes)
    assert any("not comparable" in note for note in drawing.notes)


def test_a_curve_for_every_weight_and_chance(trained: Path, catalogue: Catalogue, tmp_path: Path) -> None:
    drawing = draw("figure4", gathered(catalogue, trained, "figure4"))
    for axes in drawing.figure.axes:
        assert [each.get_label() for each in axes.get_lines()] == [*WEIGHTS, "chance"]
        assert axes.get_ylim()[0] == 0
    paths = save(drawing.figure, drawing.data, tmp_path / "one" / "figure4")
    again = draw("figure4", gathered(catalogue, trained, "figure4"))
    for path, other in zip(paths, save(again.figure, again.data, tmp_path / "two" / "figure4"), strict=True):
        assert path.read_bytes() == other.read_bytes()


def test_distance_by_epoch(root: Path, catalogue: Catalogue) -> None:
    figure = gathered(catalogue, root, "figure4")
    first, second = dict.fromkeys(each.run_id for each in figure.planned)
    store(root, first, [B, B, B, B, A, A, B, A])
    store(root, second, [A, A, A, A, B, A, A])
    drawing = draw("figure4", figure)
    means = drawing.data.groupby(["panel", "second_epoch"])["distance"].mean()
    assert means[PAST].to_dict() == {5: 0, 6: 0, 7: 1, 8: 0}
    assert means[PAIR].to_dict() == {5: 1, 6: 0, 7: 1}
    assert drawing.data["chance"].tolist() == pytest.approx([2 / 3] * len(drawing.data))
    assert not any("instead of" in note for note in drawing.notes)


@pytest.mark.parametrize(("name", "strangers"), [("figure8", True), ("figure9", False)])
def test_pairs_by_growth(root: Path, catalogue: Catalogue, name: str, strangers: bool) -> None:
    figure = gathered(catalogue, root, name)
    for each in figure.planned:
        same = each.block == "Gradient growth" or each.seed == 1
        store(root, each.run_id, [A if same else B] * 6)
    drawing = draw(name, figure)
    means = drawing.data.groupby("panel")["distance"].mean()
    assert means.to_dict() == {"Random growth": 1, "Gradient growth": 0}
    assert [axes.get_title() for axes in drawing.figure.axes] == ["Random growth", "Gradient growth"]
    assert any("ih1 is at chance" in note for note in drawing.notes) == strangers


def test_missing_runs_are_named(root: Path, catalogue: Catalogue) -> None:
    figure = gathered(catalogue, root, "figure4", without=[2])
    first, second = dict.fromkeys(each.run_id for each in figure.planned)
    store(root, first, [A] * 6)
    drawing = draw("figure4", figure)
    assert set(drawing.data["panel"]) == {PAST}
    assert f"{PAIR}: not finished: {second}." in drawing.notes
    assert texts(drawing.figure) == ["no finished run"]


def test_missing_snapshots_are_named(root: Path, catalogue: Catalogue) -> None:
    figure = gathered(catalogue, root, "figure9")
    there = figure.planned[0].run_id
    store(root, there, [A] * 6)
    drawing = draw("figure9", figure)
    assert drawing.data.empty
    assert list(drawing.data.columns) == list(COLUMNS)
    assert texts(drawing.figure) == ["no snapshots", "no snapshots"]
    note = next(note for note in drawing.notes if note.startswith("Random growth: no snapshots here of"))
    assert figure.planned[1].run_id in note
    assert there not in note


def test_logs_from_elsewhere_find_snapshots_where_runs_live(
    root: Path, catalogue: Catalogue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSE_RNN_RUNS", str(root))
    figure = gathered(catalogue, root, "figure4", link="https://wandb.ai/lab/sparse_rnn/runs")
    for run_id in figure.logs.runs:
        store(root, run_id, [A] * 6)
    assert len(draw("figure4", figure).data) == 2 * 2 * len(WEIGHTS)


def test_epochs_that_only_one_of_a_pair_has_are_left_out(root: Path, catalogue: Catalogue) -> None:
    figure = gathered(catalogue, root, "figure4")
    first, second = dict.fromkeys(each.run_id for each in figure.planned)
    store(root, first, [A] * 3)
    store(root, second, [A] * 6)
    for epoch in (1, 2, 3):
        (RunFolder(root / second).snapshots / f"epoch{epoch:04d}.safetensors").unlink()
    drawing = draw("figure4", figure)
    assert set(drawing.data["panel"]) == {PAST}
    assert texts(drawing.figure) == ["no epoch of which both\nhave snapshots"]


def test_other_seeds(root: Path, catalogue: Catalogue) -> None:
    one = gathered(catalogue, root, "figure4", seeds=(3,))
    store(root, one.planned[0].run_id, [A, B])
    drawing = draw("figure4", one)
    assert set(drawing.data["panel"]) == {PAST}
    assert texts(drawing.figure) == ["a pair of runs\nneeds two seeds"]
    many = gathered(catalogue, root, "figure9", seeds=(4, 5, 6))
    for each in many.planned:
        store(root, each.run_id, [A, B])
    notes = draw("figure9", many).notes
    assert "Random growth: seeds 4 and 5, from epoch 1 instead of 5, of which there is no snapshot." in notes


def test_a_model_whose_units_cannot_be_exchanged(root: Path, catalogue: Catalogue) -> None:
    figure = gathered(catalogue, root, "figure9")
    folder = RunFolder(root / figure.planned[0].run_id).snapshots
    for each in figure.planned:
        store(root, each.run_id, [A] * 2)
    shapes = {"shape/layers.0.input.weight": "4x4"}
    save_file({"hidden/0": np.zeros((5, 4), np.float16)}, folder / "epoch0001.safetensors", shapes)
    with pytest.raises(ConfigError, match="holds no masks of an LSTM or RHN"):
        draw("figure9", figure)

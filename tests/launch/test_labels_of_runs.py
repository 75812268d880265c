"""How `plan`, `submit` and `status` tell runs apart: by what was asked for, not by ids alone."""

import json

import pytest
from launch_helpers import SMALL, id_of

from launch import commands
from launch.requests import Request, entries, parse, sent_before
from launch.submission import send
from sparse_rnn.runs.folder import runs_root
from sparse_rnn.tables.catalogue import Catalogue

SWEEP = ["--sweep", "sparsifier.sparsity=0.5,0.9 sparsifier.removal_rate=0.3,0.5 seed=1,2", *SMALL]


@pytest.fixture
def asked(tmp_path):
    """The runs of a sweep."""
    return entries(parse("plan", SWEEP), Catalogue(tmp_path))


def test_the_plan_of_a_sweep_has_what_differs(asked, capsys):
    labels = [entry.label for entry in asked]
    assert labels[:3] == [
        "sparsity=0.5 removal_rate=0.3, seed 1",
        "sparsity=0.5 removal_rate=0.3, seed 2",
        "sparsity=0.5 removal_rate=0.5, seed 1",
    ]
    assert len(set(labels)) == 8
    commands.plan(parse("plan", SWEEP))
    said = capsys.readouterr().out
    assert all(f"  missing  {entry.label}" in said and entry.run_id in said for entry in asked)


def test_a_sweep_of_one_run_is_called_as_it_was_asked_for(tmp_path):
    [entry] = entries(parse("plan", ["--sweep", "sparsifier=set", *SMALL]), Catalogue(tmp_path))
    assert entry.label == "sparsifier=set"


def test_runs_that_were_sent_are_told_apart_before_and_after_they_began(asked, monkeypatch):
    monkeypatch.setattr("launch.submission.LocalQueue.add", lambda *_, **__: None)
    from launch.clusters import compose_cluster

    send(asked[:4], compose_cluster([]), runs_root())
    expected = {entry.run_id: label for entry, label in zip(asked[:4], labels_of(), strict=True)}
    assert {entry.run_id: entry.label for entry in sent_before(Request("status"), runs_root())} == expected
    begun = runs_root() / asked[0].run_id
    record = {"config": asked[0].facts.config, "status": "running", "data_sha256": ""}
    (begun / "record.json").write_text(json.dumps(record))
    assert {entry.run_id: entry.label for entry in sent_before(Request("status"), runs_root())} == expected


def labels_of() -> list[str]:
    return [f"removal_rate={rate}, seed {seed}" for rate in (0.3, 0.5) for seed in (1, 2)]


def test_runs_that_an_earlier_version_sent_have_no_label(tmp_path):
    for name in ("a", "b"):
        folder = runs_root() / name
        folder.mkdir(parents=True)
        (folder / "submission.json").write_text(json.dumps({"cluster": "local", "job": None, "overrides": []}))
    assert [entry.label for entry in sent_before(Request("status"), runs_root())] == ["", ""]


def test_a_wrong_point_of_a_sweep_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"^sparsifier=dense growth=random: sparsifier=dense never grows weights: "):
        entries(parse("plan", ["--sweep", "sparsifier=set,dense growth=random", *SMALL]), Catalogue(tmp_path))


def test_ids_are_those_of_the_command_line(asked):
    assert asked[0].run_id == id_of(*asked[0].overrides)

"""Iterative magnitude pruning: rounds that are runs, each of which knows its parent."""

import json
from dataclasses import replace

import pytest
import torch

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id
from sparse_rnn.core.errors import ConfigError, RunFailed
from sparse_rnn.runs.folder import RunFolder, runs_root
from sparse_rnn.runs.parents import parent_of
from sparse_rnn.runs.weights import sparse_values
from sparse_rnn.sparsity.method import make_topology
from sparse_rnn.training import session
from sparse_rnn.training.assembly import load_data
from sparse_rnn.training.trainer import Trainer

SMALL = ("dataset=pydoc", "budget=smoke", "model.hidden=8", "training.epochs=2", "logger=files", "sparsifier=imp")


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSE_RNN_RUNS", str(tmp_path / "runs"))


def train(run, *overrides):
    session.train(run, [*SMALL, *overrides])


def composed(*overrides: str):
    return compose_run([*SMALL, *overrides])


def rounds_of(run):
    """The run and all its ancestors, the dense one last."""
    found = [run]
    while (parent := parent_of(found[-1])) is not None:
        found.append(parent)
    return found


def record(run):
    return json.loads((runs_root() / run_id(run) / "record.json").read_text())


def fresh_folder(name):
    (runs_root() / name).mkdir()
    return RunFolder(runs_root() / name)


def kept(run):
    """Which entries of the sparse weights a finished run has, and its weights."""
    topology = make_topology(run.sparsifier, run.model.build(*run.dataset.load().sizes))
    values = sparse_values(RunFolder(runs_root() / run_id(run)).best, topology)
    return torch.cat([value.flatten() for value in values.values()])


def test_every_round_removes_the_same_share_and_the_parent_is_the_round_before():
    run = composed("sparsifier.sparsity=0.488", "sparsifier.rounds=3")
    rounds = rounds_of(run)
    assert [each.sparsifier.rounds for each in rounds] == [3, 2, 1, 0]
    assert [each.sparsifier.sparsity for each in rounds] == pytest.approx([0.488, 0.36, 0.2, 0.0])
    others = replace(run, sparsifier=rounds[1].sparsifier)
    assert run_id(others) == run_id(rounds[1])


def test_a_run_trains_its_ancestors_and_keeps_the_largest_of_their_weights():
    asked = ("sparsifier.sparsity=0.75", "sparsifier.rounds=2")
    run = composed(*asked)
    train(run, *asked)
    child, parent, dense = rounds_of(run)
    assert record(child)["parent"] == run_id(parent)
    assert record(parent)["parent"] == run_id(dense)
    assert "parent" not in record(dense)
    for each in (child, parent, dense):
        assert run_id(compose_run([*record(each)["overrides"], "logger=files"])) == run_id(each)
    size = len(kept(dense))
    assert [record(each)["sparsity"] for each in (child, parent, dense)] == pytest.approx(
        [0.75, 0.5, 0.0], abs=1 / size
    )
    for young, old in ((child, parent), (parent, dense)):
        stays, before = kept(young) != 0, kept(old).abs()
        assert int(stays.sum()) == round(size * (1 - young.sparsifier.sparsity))
        assert before[stays].min() >= before[~stays].max()


def test_ancestors_that_are_finished_are_not_trained_again():
    run = composed("sparsifier.rounds=1")
    parent = parent_of(run)
    train(parent)
    before = (runs_root() / run_id(parent) / "metrics.jsonl").stat().st_mtime_ns
    train(run)
    assert (runs_root() / run_id(parent) / "metrics.jsonl").stat().st_mtime_ns == before
    assert record(run)["status"] == "finished"


@pytest.mark.parametrize("epoch", [0, 1])
def test_a_round_begins_with_the_weights_of_an_early_epoch(epoch):
    run = composed("sparsifier.rounds=1", f"sparsifier.rewind_epoch={epoch}")
    parent = parent_of(run)
    train(parent)
    data = load_data(run)
    beginning = Trainer(parent, data, fresh_folder("elsewhere"), torch.device("cpu"))
    if epoch:
        tensors = sparse_values(RunFolder(runs_root() / run_id(parent)).rewind, beginning.topology)
        assert not torch.equal(tensors["decoder.weight"], beginning.model.decoder.weight)
    else:
        tensors = {weight.name: weight.values for weight in beginning.topology}
    trainer = Trainer(run, data, fresh_folder("here"), torch.device("cpu"))
    for weight in trainer.topology:
        assert weight.active < weight.size
        assert torch.equal(weight.values, tensors[weight.name] * weight.mask)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["checkpoint.keep=none"], "choose another checkpoint.keep"),
        (["sparsifier.rewind_epoch=2"], "rewind_epoch=2 must be less than training.epochs=2"),
        (["sparsifier.rounds=0"], "sparsity=0.67 does not go with sparsifier.rounds=0"),
        (["sparsifier.sparsity=0"], "sparsity=0.0 does not go with sparsifier.rounds=3"),
        (["sparsifier.initial=uniform"], "takes its topology from its parent"),
        (["sparsifier.rounds=-1"], "sparsifier.rounds"),
    ],
)
def test_what_is_refused(overrides, said):
    with pytest.raises(ConfigError, match=said):
        train(composed(*overrides))
    assert not runs_root().exists() or not any(runs_root().iterdir())


def test_a_damaged_parent_is_named():
    run = composed("sparsifier.rounds=1")
    train(parent_of(run))
    best = RunFolder(runs_root() / run_id(parent_of(run))).best
    best.write_bytes(best.read_bytes()[:100])
    with pytest.raises((RunFailed, ConfigError), match=r"best\.safetensors"):
        train(run)

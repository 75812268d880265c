"""Runs on pixels, the adding and the copying problem: what they report, and that they resume bit for bit."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_helpers import SMALL, Train, composed, record_of, rows_of
from stopping import LAST, stop_at
from test_resume import assert_equal_runs

from sparse_rnn.core.conf import options
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import lookup
from sparse_rnn.data.sequences import images
from sparse_rnn.evaluate import evaluate
from sparse_rnn.export import export_run
from sparse_rnn.models.layers.inputs import embed
from sparse_rnn.runs.flops import run_flops
from sparse_rnn.training.assembly import make_task
from sparse_rnn.training.session import summary

FEW = ["dataset.train=40", "dataset.valid=8", "dataset.test=8", "training.batch=8"]
WITHOUT = ("training.bptt", "budget.train_tokens", "budget.eval_tokens", "training.batch", "training.epochs")
BASE = [*(override for override in SMALL if not override.startswith(WITHOUT)), "training.epochs=3", "model.hidden=8"]
RUNS = {
    "sequential_digits": ["model=lstm_classifier", "model.embedding=4", "training.batch=10", "dataset.permuted=true"],
    "adding": ["model=lstm_classifier", "model.embedding=4", "dataset.length=8", *FEW],
    "copying": ["model=stacked_lstm", "optimizer=adam", "dataset.length=3", *FEW],
}
METHODS = {"sequential_digits": "rigl", "adding": "selfish", "copying": "snfs"}
BACKENDS = ("masked", "sparse")
PLACES = {"split": "test", "weights": "best", "batch": "", "device": "cpu", "threads": "1"}


@pytest.fixture(autouse=True)
def _few_digits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random images in the place of scikit-learn's."""
    draw = np.random.default_rng(0)
    table = np.hstack([draw.integers(0, 17, (40, 64)), draw.integers(0, 10, (40, 1))]).astype(np.uint8)
    monkeypatch.setattr(images, "digits_file", lambda: Path())
    monkeypatch.setattr(images, "read_digits", lambda path: table)
    monkeypatch.setattr(images.SequentialDigits, "train", 20)
    monkeypatch.setattr(images.SequentialDigits, "valid", 10)


def overrides(dataset: str, *more: str) -> list[str]:
    """A run of a fraction of a second."""
    return [f"dataset={dataset}", *RUNS[dataset], *BASE, f"sparsifier={METHODS[dataset]}", *more]


@pytest.mark.parametrize("dataset", RUNS)
def test_a_stopped_run_equals_an_uninterrupted_one(
    dataset: str, train_here: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = overrides(dataset, "sparsifier.update_interval=3", "checkpoint.keep=last")
    undisturbed = train_here(run, "undisturbed")
    for moment in (("train", 1, 2), ("train", 2, LAST)):
        stop_at(monkeypatch, train_here, run, moment)
    assert_equal_runs(train_here(run), undisturbed)


def test_the_kernels_read_numbers_through_a_sparse_embedding(train_here: Train) -> None:
    run = overrides("adding", "sparsifier.keep_dense=[]", "sparsifier=rigl", "sparsifier.sparsity=0.5")
    masked, sparse = (record_of(train_here([*run, f"sparsifier.backend={name}"], name)) for name in BACKENDS)
    assert (masked["backend"], sparse["backend"]) == BACKENDS
    assert sparse["results"]["test/mse"] == pytest.approx(masked["results"]["test/mse"], rel=1e-4)
    assert sparse["active_parameters"] == masked["active_parameters"]


@pytest.mark.parametrize(
    ("dataset", "metric", "said", "counted"),
    [
        ("sequential_digits", "accuracy", "valid accuracy", "20 / 10 / 10 images, 1 number per step, 10 classes"),
        ("adding", "mse", "valid mean squared error", "40 / 8 / 8 sequences, 2 numbers per step, 1 target"),
        ("copying", "accuracy", "valid accuracy", "40 / 8 / 8 sequences, 10 symbols"),
    ],
)
def test_what_a_run_reports(
    dataset: str,
    metric: str,
    said: str,
    counted: str,
    train_here: Train,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = train_here(overrides(dataset, "snapshots=true", "snapshots.tokens=30"))
    printed = capsys.readouterr().out
    assert counted in printed
    assert "For comparison, valid " in printed
    record, rows = record_of(folder), rows_of(folder)
    results = record["results"]
    assert summary(record).startswith(f"{said} ")
    validations = [row[f"valid/{metric}"] for row in rows if f"valid/{metric}" in row]
    assert results[f"valid/{metric}"] == (min if metric == "mse" else max)(validations)
    if metric == "mse":
        assert results["test/mse"] == results["test/loss"]
    line = evaluate(run=str(folder.path), **PLACES)
    assert f"{metric} {results[f'test/{metric}']:.4f}" in line
    export_run(str(folder.path), "csr", str(tmp_path / "file.safetensors"), "best")
    assert "vocabulary" not in capsys.readouterr().err
    with pytest.raises(
        ConfigError, match=r"file\.safetensors is of data without words: evaluate its run, by run=ID\.$"
    ):
        evaluate(run="", file=str(tmp_path / "file.safetensors"), **PLACES)
    if dataset != "copying":
        with pytest.raises(ConfigError, match="whose steps are numbers, and the graphs of format=onnx read tokens"):
            export_run(str(folder.path), "onnx", str(tmp_path / "file.onnx"), "best")


def test_flops_count_every_step_of_a_sequence() -> None:
    short, long = (
        run_flops(composed(["model=lstm_classifier", "dataset=adding", f"dataset.length={n}"])) for n in (10, 20)
    )
    decoder = 2 * 256 * 50
    assert long.test - decoder == pytest.approx(2 * (short.test - decoder))
    assert (short.tokens, long.tokens) == (30 * 10 * 20_000, 30 * 20 * 20_000)


@pytest.mark.parametrize("model", sorted(options("model")))
def test_every_model_learns_from_sequences(model: str) -> None:
    """Language models copy, classifiers add numbers: every weight gets a gradient."""
    dataset = "copying" if lookup("model", model).task == "language_modelling" else "adding"
    own = f"{model}_adam" in options("recipe")
    without = (
        [] if own else ["recipe=none", "optimizer.lr=0.1", "sparsifier.sparsity=0.5", "sparsifier.removal_rate=0.1"]
    )
    windows = [f"training.{key}" for key in ("variable_bptt=false", "max_bptt=null", "sub_batch=null")]
    run = composed([f"model={model}", "optimizer=adam", f"dataset={dataset}", "budget=smoke", *without, *windows])
    data = run.dataset.load()
    network = run.model.build(*data.sizes)
    task = make_task(run, data, network, torch.device("cpu"))
    totals, _ = task.backward(next(task.batches(0).after(0)), task.initial_hidden())
    assert all(parameter.grad is not None and parameter.grad.isfinite().all() for parameter in network.parameters())
    assert math.isfinite(float(totals.loss))
    assert task.evaluate("valid").keys() == {"loss", task.metric}


@pytest.mark.parametrize("dataset", ["adding", "copying"])
def test_every_epoch_and_every_seed_has_new_sequences(dataset: str) -> None:
    run = composed(overrides(dataset))
    data, model = run.dataset.load(), run.model.build(*run.dataset.sizes())
    tasks = [make_task(replace(run, seed=seed), data, model, torch.device("cpu")) for seed in (1, 1, 2)]
    inputs = [next(task.batches(epoch).after(2)).inputs for task in tasks for epoch in (0, 1)]
    assert inputs[0].equal(inputs[2])
    assert inputs[1].equal(inputs[3])
    assert len({tuple(each.flatten().tolist()) for each in inputs}) == 4


def test_copying_counts_symbols_that_were_remembered(train_here: Train) -> None:
    """A model that always answers the same symbol is right in an eighth of the ten steps, and only there."""
    run = composed(overrides("copying"))
    data, model = run.dataset.load(), run.model.build(10)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
        model.decoder.bias[3] = 20.0
    found = make_task(run, data, model, torch.device("cpu")).evaluate("valid")
    targets = data.splits["valid"].targets
    assert found["accuracy"] == pytest.approx(float((targets[-10:] == 3).double().mean()))
    right = float((targets == 3).double().mean())
    assert found["loss"] == pytest.approx((1 - right) * 20, rel=1e-4)


@pytest.mark.parametrize("shape", [(5, 3, 4), (5, 3)])
def test_numbers_and_tokens_are_one_linear_map(shape: tuple[int, ...]) -> None:
    embedding = torch.nn.Embedding(4, 6)
    tokens = torch.randint(4, shape[:2])
    one_hot = torch.nn.functional.one_hot(tokens, 4).float()
    torch.testing.assert_close(embed(embedding, one_hot), embed(embedding, tokens))
    numbers: Any = torch.rand(5, 3, 4)
    torch.testing.assert_close(embed(embedding, numbers), numbers @ embedding.weight)
    assert math.isclose(len(embed(embedding, tokens)), 5)

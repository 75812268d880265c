"""Runs with an adaptive decoder on tokens that are mapped from a file."""

import random
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
from run_helpers import SMALL, Train, record_of
from stopping import LAST, stop_at
from test_resume import assert_equal_runs

from sparse_rnn.data.language import wikitext103
from sparse_rnn.evaluate import evaluate
from sparse_rnn.export import export_run
from sparse_rnn.generate import generate

GENERATED = {"prompt": "w1 w2", "words": "5", "temperature": "1", "seed": "1", "threads": "1"}


@pytest.fixture
def overrides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A run on 60 words of very different frequency, so that many windows have no word of the last tail."""
    draw = random.Random(0)
    words = [f"w{int(60 * draw.random() ** 6)}" for _ in range(1500)]
    folder = tmp_path / "data" / "wikitext103"
    folder.mkdir(parents=True)
    path = folder / wikitext103.WIKITEXT103_ARCHIVE
    with zipfile.ZipFile(path, "w") as packed:
        for split, part in (("train", words[:900]), ("valid", words[900:1200]), ("test", words[1200:])):
            packed.writestr(f"wikitext-103/wiki.{split}.tokens", " ".join(part) + " \n")
    known = {path.name: (path.name, sha256(path.read_bytes()).hexdigest())}
    monkeypatch.setattr(wikitext103, "WIKITEXT103_FILES", known)
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path / "data"))
    settings = ["dataset=wikitext103", "model.decoder=adaptive", "optimizer=adam", "sparsifier=rigl", *SMALL]
    return [*settings, "training.epochs=2", "sparsifier.update_interval=4", "checkpoint.keep=last"]


def test_a_stopped_run_equals_an_uninterrupted_one(
    overrides: list[str], train_here: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = [*overrides, "sparsifier.backend=sparse"]
    undisturbed = train_here(run, "undisturbed")
    for moment in (("train", 1, 5), ("train", 2, LAST)):
        stop_at(monkeypatch, train_here, run, moment)
    assert_equal_runs(train_here(run), undisturbed)


def test_both_backends_compute_the_same_and_exports_write_text(
    overrides: list[str], train_here: Train, tmp_path: Path
) -> None:
    results = {}
    for backend in ("masked", "sparse"):
        folder = train_here([*overrides, f"sparsifier.backend={backend}"], backend)
        record = record_of(folder)
        assert record["backend"] == backend
        results[backend] = record["results"]["test/perplexity"]
    assert results["sparse"] == pytest.approx(results["masked"], rel=1e-3)
    written = generate(run=str(folder.path), **GENERATED)
    export_run(str(folder.path), "csr", str(tmp_path / "model.safetensors"), "best")
    assert generate(run="", file=str(tmp_path / "model.safetensors"), **GENERATED) == written
    places = {"split": "test", "weights": "best", "batch": "", "device": "cpu", "threads": "1"}
    for source in ({"run": str(folder.path)}, {"run": "", "file": str(tmp_path / "model.safetensors")}):
        assert f"perplexity {results['sparse']:.2f}"[:-1] in evaluate(**source, **places)

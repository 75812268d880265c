"""Runs on characters: what they report, and what their models read and write."""

import math
import re
from hashlib import sha256
from pathlib import Path

import pytest
from run_helpers import SMALL, Train, record_of, rows_of
from stopping import stop_at
from test_resume import assert_equal_runs

from sparse_rnn.data.language import corpora
from sparse_rnn.evaluate import evaluate
from sparse_rnn.export import export_run
from sparse_rnn.generate import generate
from sparse_rnn.training.session import summary

GENERATED = {"prompt": "the c", "words": "7", "temperature": "1", "seed": "1", "threads": "1"}


@pytest.fixture
def characters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides for a run on the characters of a few sentences."""
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "ptb").mkdir(parents=True)
    text = " the cat saw the <unk> \n the hen saw N cats \n" * 40
    for split in ("train", "valid", "test"):
        (tmp_path / "data" / "ptb" / f"{split}.txt").write_text(text)
    digest = sha256(text.encode()).hexdigest()
    monkeypatch.setattr(corpora, "PTB_FILES", {f"{split}.txt": (split, digest) for split in ("train", "valid", "test")})
    return ["dataset=ptb_char", *SMALL, "checkpoint.keep=last"]


def test_bits_per_character_are_reported_and_runs_resume(
    characters: list[str], train_here: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed = train_here(characters, "undisturbed")
    said = capsys.readouterr().out
    assert "600 / 200 / 200 characters, 15 different characters" in said
    assert re.search(r"valid bits per character of a unigram model 3\.\d{3}, of a bigram model 0\.\d{3}\.", said)
    record = record_of(undisturbed)
    results = record["results"]
    for split in ("valid", "test"):
        assert results[f"{split}/bits_per_character"] == pytest.approx(results[f"{split}/loss"] / math.log(2))
    assert summary(record).startswith(f"valid bits per character {results['valid/bits_per_character']:.3f}, test ")
    best = min(row["valid/bits_per_character"] for row in rows_of(undisturbed) if "valid/bits_per_character" in row)
    assert results["valid/bits_per_character"] == best
    assert record["characters"] == {"train": 600, "valid": 200, "test": 200}
    for moment in (("train", 1, 3), ("train", 2, 5)):
        stop_at(monkeypatch, train_here, characters, moment)
    assert_equal_runs(train_here(characters), undisturbed)


def test_a_model_of_characters_reads_and_writes_text(
    characters: list[str], train_here: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train_here([*characters, "training.epochs=1", "budget.average_by=1"])
    own = tmp_path / "own.txt"
    own.write_text("the cat saw the hen\n")
    places = {"split": "test", "weights": "best", "batch": "", "device": "cpu", "threads": "1"}
    line = evaluate(run=str(folder.path), data=str(own), **places)
    assert re.search(r"loss \S+  perplexity \S+  bits_per_character \S+  \(best, raw, epoch 1 weights\)$", line)
    written = generate(run=str(folder.path), **GENERATED)
    export_run(str(folder.path), "csr", str(tmp_path / "file.safetensors"), "best")
    assert generate(run="", file=str(tmp_path / "file.safetensors"), **GENERATED) == written
    assert written.startswith("the c")

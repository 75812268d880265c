"""A run and its export read and write text on a machine where the data are not."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
from run_helpers import SMALL, Train, composed, record_of, write_texts
from safetensors import safe_open

from sparse_rnn.core.errors import ConfigError, DamagedFile
from sparse_rnn.core.tensor_files import read_tensors, save_tensors
from sparse_rnn.evaluate import evaluate
from sparse_rnn.export import export_run
from sparse_rnn.extract import extract_run
from sparse_rnn.generate import generate
from sparse_rnn.inference.export import load_exported
from sparse_rnn.inference.extract import load_extracted
from sparse_rnn.models.base import LanguageModel, TextClassifier
from sparse_rnn.runs.folder import RunFolder

NOT_OF_TEXTS = ("training.valid_batch", "training.test_batch", "training.bptt")
GENERATED = {"prompt": "w1 w2", "words": "5", "temperature": "1", "seed": "1", "threads": "1"}
OWN = ["training.epochs=2", "dataset.label=mine"]


def rows(count: int, separator: str = ",") -> str:
    return "".join(f"{'ham' if n % 2 else 'spam'}{separator}w{n % 7} w{n % 5} Word\n" for n in range(count))


@pytest.fixture
def texts(tmp_path: Path) -> list[str]:
    folder = tmp_path / "texts"
    folder.mkdir()
    return [*write_texts(folder), *OWN, "budget.eval_tokens=null", "training.test_batch=3"]


@pytest.fixture
def tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path / "texts/data"))
    folder = tmp_path / "texts"
    folder.mkdir()
    for split in ("train", "test"):
        (folder / f"{split}.csv").write_text(rows(60))
    small = [override for override in SMALL if not override.startswith(NOT_OF_TEXTS)]
    named = [f"dataset.{split}={folder}/{split}.csv" for split in ("train", "test")]
    settings = ["model=lstm_classifier", "dataset=labelled_text", "dataset.length=5", "dataset.vocabulary=20"]
    return [*settings, *named, *small, *OWN, "budget.eval_tokens=null"]


def move_away(tmp_path: Path) -> Path:
    """The data as if they were on another machine; returns where they are now."""
    (tmp_path / "texts").rename(tmp_path / "elsewhere")
    return tmp_path / "elsewhere"


def numbers(line: str) -> list[str]:
    return re.findall(r"(?:loss|perplexity|accuracy) (\S+)", line)


def evaluated(folder: RunFolder, data: Path | str, weights: str = "best", batch: str = "") -> str:
    return evaluate(str(folder.path), "test", weights, batch, "cpu", "1", str(data))


def test_text_is_generated_and_evaluated_without_the_data(
    texts: list[str], train_here: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train_here([*texts, "checkpoint.keep=last"])
    printed = capsys.readouterr().out
    assert "31 words" not in printed
    assert re.search(r"tokens, 32 words, 0 of the validation tokens unknown; 1 thread", printed)
    assert folder.path.name.startswith("stacked_lstm-mine-selfish-s1-")
    before = generate(str(folder.path), **GENERATED)
    there = evaluate(str(folder.path), "test", "best", "", "cpu", "1")
    elsewhere = move_away(tmp_path)
    assert generate(str(folder.path), **GENERATED) == before
    line = evaluated(folder, elsewhere / "test.txt")
    assert numbers(line) == numbers(there)
    assert line.startswith(f"{folder.path.name}  {elsewhere}/test.txt  loss ")
    assert line.endswith(" weights)  0 of 108 words unknown")
    for weights in ("raw", "averaged"):
        assert evaluated(folder, elsewhere / "test.txt", weights).endswith("0 of 108 words unknown")
    (tmp_path / "letter.txt").write_text("w1 never w2\nseen w3\n")
    assert evaluated(folder, tmp_path / "letter.txt").endswith("  2 of 5 words unknown")
    (tmp_path / "word.txt").write_text("w1\n")
    assert evaluated(folder, tmp_path / "word.txt").endswith("  0 of 1 word unknown")
    with pytest.raises(ConfigError, match=r"train\.txt does not exist\.$"):
        evaluate(str(folder.path), "test", "best", "", "cpu", "1")


def test_an_export_reads_and_writes_text(texts: list[str], train_here: Train, tmp_path: Path) -> None:
    folder = train_here([*texts, "checkpoint.keep=last"])
    move_away(tmp_path)
    for weights in ("best", "averaged", "raw"):
        export_run(str(folder.path), "csr", str(tmp_path / "model.safetensors"), weights)
        model = load_exported(tmp_path / "model.safetensors")
        assert isinstance(model, LanguageModel)
        tokens = model.encode("w3 never w4\n")
        assert model.decode(tokens) == "w3 <unk> w4\n"
        output, _ = model(tokens[:, None], model.initial_hidden(1))
        assert model.log_probabilities(output).shape == (4, 1, record_of(folder)["sizes"][0])
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        kept = json.loads(file.metadata()["vocabulary"])
    assert kept["data_sha256"] == record_of(folder)["data_sha256"]


def test_a_classifier_knows_its_words_and_classes(tables: list[str], train_here: Train, tmp_path: Path) -> None:
    folder = train_here([*tables, "checkpoint.keep=last"])
    assert folder.path.name.startswith("lstm_classifier-mine-")
    there = evaluate(str(folder.path), "test", "best", "", "cpu", "1")
    elsewhere = move_away(tmp_path)
    line = evaluated(folder, elsewhere / "test.csv")
    assert numbers(line) == numbers(there)
    assert line.endswith("  0 of 180 words unknown")
    (tmp_path / "other.tsv").write_text("ham\tw1 strange words\n")
    assert evaluated(folder, tmp_path / "other.tsv", "raw").endswith("  2 of 3 words unknown")
    export_run(str(folder.path), "coo", str(tmp_path / "model.safetensors"), "best")
    model = load_exported(tmp_path / "model.safetensors")
    assert isinstance(model, TextClassifier)
    assert model.classes == ("ham", "spam")
    tokens = model.encode("W1, nothing word!")
    assert model.decode(tokens) == "w1 word"
    with torch.no_grad():
        assert model(tokens[:, None]).shape == (1, 2)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("eggs,w1\n", "other.csv, line 1, has the label 'eggs' instead of one of ham, spam: "),
        ("label,text\n", "other.csv has no texts."),
        ("ham\n", "other.csv, line 1, has 1 column instead of 2: "),
    ],
)
def test_labelled_files_that_are_not_of_the_run(
    content: str, sentence: str, tables: list[str], train_here: Train, tmp_path: Path
) -> None:
    folder = train_here(tables)
    (tmp_path / "other.csv").write_text(content)
    with pytest.raises(ConfigError) as caught:
        evaluated(folder, tmp_path / "other.csv")
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("content", "batch", "sentence"),
    [
        (None, "", " does not exist."),
        (b"", "", " is empty."),
        ("caf\u00e9\n".encode("latin-1"), "", ", line 1, is not UTF-8 text (byte 4 of the line is 0xE9): "),
        (b"w1 w2\n", "2", " has 3 tokens: too few for batch=2."),
    ],
)
def test_texts_that_cannot_be_evaluated(
    content: bytes | None, batch: str, sentence: str, texts: list[str], train_here: Train, tmp_path: Path
) -> None:
    folder, path = train_here(texts), tmp_path / "other.txt"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        evaluated(folder, path, batch=batch)
    assert str(caught.value).startswith(f"data={path}{sentence}")


def test_an_extracted_network_reads_text(texts: list[str], train_here: Train, tmp_path: Path) -> None:
    folder = train_here([*texts, "recipe=iss_stacked_lstm"])
    extract_run(str(folder.path), str(tmp_path / "extracted.safetensors"))
    model = load_extracted(tmp_path / "extracted.safetensors")
    assert model.decode(model.encode("w1 never\n")) == "w1 <unk>\n"


def test_a_vocabulary_without_unk_names_the_words_it_lacks(texts: list[str], train_here: Train, tmp_path: Path) -> None:
    folder = train_here([*texts, "dataset.vocabulary=all"])
    (tmp_path / "other.txt").write_text("w1 never seen\n")
    with pytest.raises(ConfigError) as caught:
        evaluated(folder, tmp_path / "other.txt")
    assert str(caught.value) == (
        f"data={tmp_path}/other.txt has 2 words that the model does not know (the first is never), and its vocabulary "
        "has no <unk>."
    )


def test_a_split_beside_a_file_is_refused(texts: list[str], train_here: Train) -> None:
    folder = train_here(texts)
    with pytest.raises(ConfigError, match=r"^split=valid means nothing with data=a\.txt: leave one of them out\.$"):
        evaluate(str(folder.path), "valid", "best", "", "cpu", "1", "a.txt")


def test_a_run_of_before_uses_its_data_and_says_so_without_them(
    texts: list[str], train_here: Train, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train_here(texts)
    before = generate(str(folder.path), **GENERATED)
    folder.vocabulary.unlink()
    assert generate(str(folder.path), **GENERATED) == before
    assert evaluated(folder, tmp_path / "texts/test.txt").endswith("0 of 108 words unknown")
    export_run(str(folder.path), "csr", str(tmp_path / "model.safetensors"), "best")
    assert "keeps no vocabulary, as runs of earlier versions do not: its export has none" in capsys.readouterr().err
    model = load_exported(tmp_path / "model.safetensors")
    assert isinstance(model, LanguageModel)
    for use in (lambda: model.encode("w1"), lambda: model.decode([1])):
        with pytest.raises(ConfigError, match=r"^This model has no vocabulary: [^\n]+\.$"):
            use()
    move_away(tmp_path)
    with pytest.raises(ConfigError) as caught:
        generate(str(folder.path), **GENERATED)
    assert str(caught.value) == (
        f"{folder.path} keeps no vocabulary, and its data cannot be used instead: dataset.train={tmp_path}/texts/"
        "train.txt does not exist."
    )


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (
            '{"words": ["a"], "data_sha256": ""}',
            r"\(its vocabulary has 1 word, and .*\): remove it, ",
        ),
        ("{", r"\(it is no JSON\): remove it, "),
        ("other data", "their SHA-256 differs"),
    ],
)
def test_a_damaged_vocabulary_is_one_sentence(damage: str, reason: str, texts: list[str], train_here: Train) -> None:
    folder = train_here(texts)
    if damage == "other data":
        damage = json.dumps({**json.loads(folder.vocabulary.read_text()), "data_sha256": "0"})
    folder.vocabulary.write_text(damage)
    with pytest.raises(ConfigError, match=rf"vocabulary\.json is not .*{reason}"):
        generate(str(folder.path), **GENERATED)


def test_a_resumed_run_keeps_the_vocabulary_again(texts: list[str], train_here: Train, tmp_path: Path) -> None:
    folder = train_here(texts)
    kept = folder.vocabulary.read_bytes()
    shutil.rmtree(folder.path)
    folder.path.mkdir()
    folder.vocabulary.write_text("of another time")
    assert train_here(texts).vocabulary.read_bytes() == kept
    assert composed(texts).dataset.load().sha256 == json.loads(kept)["data_sha256"]


def test_an_export_with_a_false_vocabulary_is_refused(texts: list[str], train_here: Train, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    export_run(str(train_here(texts).path), "csr", str(path), "best")
    tensors, metadata = read_tensors(path)
    kept = json.loads(metadata["vocabulary"])
    for wrong in ("[]", "{", json.dumps({**kept, "words": kept["words"][1:]}), json.dumps({**kept, "words": "x"})):
        save_tensors(path, tensors, {**metadata, "vocabulary": wrong})
        with pytest.raises(DamagedFile, match=r"^[^\n]* does not hold an exported model \([^\n]+\)\.$"):
            load_exported(path)

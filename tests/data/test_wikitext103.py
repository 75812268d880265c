"""dataset=wikitext103: a small archive in the published format, and the file of tokens that is made of it."""

import zipfile
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refusal

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.batches import Windows, side_by_side
from sparse_rnn.data.corpus import SPLITS, Corpus, make_corpus, sentence_words
from sparse_rnn.data.language import wikitext103
from sparse_rnn.data.language.wikitext103 import WikiText103

TEXTS = {"train": " \n = c a = \n \n a a <unk> a \n", "valid": " \n = b caf\u00e9 = \n", "test": " \n <unk> \n \n"}


def publish(root: Path, monkeypatch: pytest.MonkeyPatch, members: dict[str, str]) -> Path:
    folder = root / "wikitext103"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / wikitext103.WIKITEXT103_ARCHIVE
    with zipfile.ZipFile(path, "w") as packed:
        for name, text in members.items():
            packed.writestr(name, text)
    known = {path.name: (path.name, sha256(path.read_bytes()).hexdigest())}
    monkeypatch.setattr(wikitext103, "WIKITEXT103_FILES", known)
    return path


@pytest.fixture
def archive(root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three short texts in the place of the published ones, read a few words at a time."""
    monkeypatch.setattr(wikitext103, "AT_ONCE", 3)
    return publish(root, monkeypatch, {f"wikitext-103/wiki.{split}.tokens": text for split, text in TEXTS.items()})


def words(corpus: Corpus, split: str) -> list[str]:
    return [corpus.vocabulary.words[number] for number in corpus.splits[split].tolist()]


def by_hand() -> dict[str, list[str]]:
    return {
        split: [word for line in text.splitlines() for word in sentence_words(line, blank_lines=True)]
        for split, text in TEXTS.items()
    }


def test_the_words_and_their_digest_are_those_of_a_text_in_memory(archive: Path) -> None:
    corpus, expected = WikiText103().load(), make_corpus(by_hand(), blank_lines=True)
    assert [words(corpus, split) for split in SPLITS] == [by_hand()[split] for split in SPLITS]
    assert (corpus.counts, corpus.sha256, corpus.sizes) == (expected.counts, expected.sha256, expected.sizes)
    assert corpus.blank_lines


def test_words_are_numbered_by_frequency_in_training(archive: Path) -> None:
    """<eos> and a: 4 times, =: 2; then as they appear; those that training does not have come last."""
    assert WikiText103().load().vocabulary.words == ["<eos>", "a", "=", "c", "<unk>", "b", "caf\u00e9"]


def test_tokens_stay_in_the_file_that_is_made_once(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = WikiText103().load()
    [path] = (archive.parent / ".encoded").glob("*.tokens")
    numbers = np.memmap(path, "<i4", mode="r")
    assert numbers.tolist() == torch.cat([first.splits[split] for split in SPLITS]).tolist()
    assert first.splits["train"].dtype == torch.int32
    train = first.splits["train"]
    assert side_by_side(train, 2, split="train").data_ptr() == train.data_ptr(), "a copy was made"
    monkeypatch.setattr(wikitext103, "encode", None)
    assert words(WikiText103().load(), "train") == by_hand()["train"]


@pytest.mark.parametrize("damage", ["tokens", "json", "neither"])
def test_a_damaged_file_is_made_again(archive: Path, damage: str) -> None:
    whole = WikiText103().load()
    for path in (archive.parent / ".encoded").glob(f"*.{damage}"):
        path.write_bytes(path.read_bytes()[:-4])
    again = WikiText103().load()
    assert again.sha256 == whole.sha256
    assert words(again, "test") == by_hand()["test"]


def test_windows_are_those_of_tokens_in_memory(archive: Path) -> None:
    train = WikiText103().load().splits["train"]
    mapped = list(Windows(side_by_side(train, 3, split="train"), 2).after(0))
    plain = list(Windows(side_by_side(train.long(), 3, split="train"), 2).after(0))
    for one, other in zip(mapped, plain, strict=True):
        assert one.inputs.equal(other.inputs)
        assert one.targets.equal(other.targets)
        assert one.inputs.is_contiguous()
        assert one.inputs.dtype == torch.int64


def test_an_archive_without_a_split_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = publish(root, monkeypatch, {"wikitext-103/wiki.train.tokens": "a b\n"})
    assert refusal(WikiText103()).startswith(f"{path} has no wikitext-103/wiki.valid.tokens (")
    assert not list((path.parent / ".encoded").glob("*.tokens"))


def test_a_folder_that_cannot_be_written_is_named(archive: Path) -> None:
    (archive.parent / ".encoded").write_text("in the way")
    assert refusal(WikiText103()).startswith(
        f"The tokens of wikitext103 cannot be written to {archive.parent}/.encoded ("
    )


def test_its_size_is_known_without_the_files(root: Path) -> None:
    dataset = compose_run(["dataset=wikitext103", "model.decoder=adaptive"]).dataset
    assert (dataset.sizes(), dataset.train_tokens(None)) == ((267_735,), 103_227_021)
    assert refusal(WikiText103()).startswith(
        "wikitext103 cannot be downloaded (no connection): put wikitext-103-v1.zip"
    )


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["dataset=ptb"], "model.decoder=adaptive needs words that are numbered by frequency"),
        (
            ["dataset=wikitext103", "recipe=iss_stacked_lstm", "sparsifier=iss"],
            "sparsifier=iss removes units from a full decoder",
        ),
        (["dataset=wikitext103", "training.graph=on"], "training.graph=on cannot record an adaptive decoder"),
        (["dataset=wikitext103", "model.hidden=15"], "model.decoder=adaptive needs a model.hidden of at least 16"),
    ],
)
def test_where_an_adaptive_decoder_does_not_work(overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=f"^{sentence}"):
        compose_run([*overrides, "model.decoder=adaptive"])
    with pytest.raises(ConfigError, match=r"^model\.decoder=sampled must be one of full, adaptive\.$"):
        compose_run(["model.decoder=sampled"])

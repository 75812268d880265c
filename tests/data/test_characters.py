"""dataset=ptb_char, text8 and enwik8: which bytes become tokens, from small files in the published formats."""

import math
import os
import zipfile
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from refusals import refusal

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import lookup
from sparse_rnn.data import fetch
from sparse_rnn.data.corpus import SPLITS, Corpus
from sparse_rnn.data.language import characters, corpora
from sparse_rnn.data.language.characters import PTBCharacters, make_characters
from sparse_rnn.data.tokenizers import CharacterTokenizer, from_json, to_json, tokenizer_of

LINES = {"train": " no it was <unk> N \n a a \n", "valid": " it 's \n", "test": " N \n"}
SIZES = {"ptb_char": (50, 5_017_482), "text8": (27, 90_000_000), "enwik8": (205, 90_000_000)}


@pytest.fixture
def treebank(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The three files of Penn Treebank, with a few lines each."""
    (root / "ptb").mkdir(parents=True)
    for split, text in LINES.items():
        (root / "ptb" / f"{split}.txt").write_text(text)
    files = {f"{split}.txt": (split, sha256(text.encode()).hexdigest()) for split, text in LINES.items()}
    monkeypatch.setattr(corpora, "PTB_FILES", files)


def pack(root: Path, monkeypatch: pytest.MonkeyPatch, name: str, content: bytes, member: str | None = None) -> Path:
    """The archive of a data set, with this content, published as such."""
    path = root / name / f"{name}.zip"
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(member or name, content)
    monkeypatch.setattr(characters, "ARCHIVES", {path.name: (path.name, sha256(path.read_bytes()).hexdigest())})
    return path


def text(corpus: Corpus, split: str) -> str:
    return "".join(corpus.vocabulary.words[number] for number in corpus.splits[split].tolist())


def test_words_are_spelled_out_with_one_space_between_them(treebank: None) -> None:
    corpus = PTBCharacters().load()
    assert text(corpus, "train") == "no it was <unk> N\na a\n"
    assert text(corpus, "valid") == "it 's\n"
    assert corpus.counts == {"train": 22, "valid": 6, "test": 2}
    assert corpus.vocabulary.words == sorted(set("no it was <unk> N\na a\nit 's\nN\n"))
    assert corpus.splits["train"].dtype == torch.uint8
    assert (corpus.unit, corpus.size_names, corpus.unknown("valid")) == ("characters", ("different characters",), None)
    assert fetch.describe(PTBCharacters()) == "22 / 6 / 2 characters, 15 different characters"


@pytest.mark.parametrize("name", ["text8", "enwik8"])
def test_an_archive_is_divided_in_order(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(characters, "BYTES", (6, 2, 2))
    pack(root, monkeypatch, name, "caf\u00e9 \u4e2d ".encode())
    corpus = lookup("dataset", name)().load()
    found = [text(corpus, split).encode("latin-1") for split in SPLITS]
    assert found == [b"caf\xc3\xa9 ", b"\xe4\xb8", b"\xad "]
    assert corpus.sizes == (9,)


def test_an_archive_of_another_length_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(root, monkeypatch, "text8", b"too short")
    assert refusal(characters.Text8()) == f"{path} has 9 bytes of text instead of 100,000,000: get it again."


def test_an_archive_without_the_file_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(root, monkeypatch, "text8", b"x", member="text9")
    assert refusal(characters.Text8()).startswith(f"{path} has no text8 (")


def test_what_is_no_archive_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pack(root, monkeypatch, "text8", b"x")
    path.write_bytes(b"no archive")
    assert refusal(characters.Text8()).startswith(f"{path} is not the published text8 file (by its SHA-256)")


@pytest.mark.parametrize("name", SIZES)
def test_what_cannot_be_downloaded_is_named(name: str, root: Path) -> None:
    asked = "ptb" if name == "ptb_char" else name
    assert refusal(lookup("dataset", name)()).startswith(f"{asked} cannot be downloaded (no connection): put ")


@pytest.mark.parametrize("name", SIZES)
def test_sizes_are_known_without_the_files(name: str, root: Path) -> None:
    dataset = compose_run([f"dataset={name}"]).dataset
    assert (*dataset.sizes(), dataset.train_tokens(None)) == SIZES[name]
    assert dataset.train_tokens(100) == 100
    assert not root.exists()


def test_texts_without_two_characters_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"^The valid split of the data set is empty\.$"):
        make_characters({"train": b"ab", "valid": b"", "test": b"a"})
    with pytest.raises(ConfigError, match="has a single character"):
        make_characters({"train": b"aa", "valid": b"a", "test": b"a"})


def test_the_digest_is_that_of_the_text_and_its_division() -> None:
    one = make_characters({"train": b"ab", "valid": b"b", "test": b"a"})
    assert make_characters({"train": b"a", "valid": b"bb", "test": b"a"}).sha256 != one.sha256
    assert make_characters({"train": b"ab", "valid": b"b", "test": b"a"}).sha256 == one.sha256


def test_a_tokenizer_reads_and_writes_any_text_of_known_bytes() -> None:
    known = "caf\u00e9 \u4e2d\n"
    tokenizer = tokenizer_of(make_characters(dict.fromkeys(SPLITS, known.encode())))
    assert isinstance(tokenizer, CharacterTokenizer)
    assert tokenizer.decode(tokenizer.encode(known)) == known
    assert tokenizer.decode(tokenizer.encode(known)[-4:-2]) == "\ufffd"
    with pytest.raises(ConfigError, match=r"^'x' is not one of the 10 characters of the data set\.$"):
        tokenizer.encode("fax")
    assert (tokenizer.prompt(""), tokenizer.prompt("fa c")) == ("\n", "fa c")
    assert tokenizer.continued("ca", tokenizer.encode("f\u00e9").tolist()) == "caf\u00e9"
    read = from_json(to_json(tokenizer).encode(), tokenizer.no_text([10]).sizes)
    assert isinstance(read, CharacterTokenizer)
    assert read.kept() == tokenizer.kept()
    with pytest.raises(ValueError, match="are not bytes"):
        from_json(to_json(tokenizer).replace('"\\n"', '"ab"').encode(), [10])


@pytest.mark.skipif(
    not (Path(os.environ.get("SPARSE_RNN_DATA", "-")) / "ptb").is_dir(), reason="no ptb folder in $SPARSE_RNN_DATA"
)
def test_penn_treebank_is_as_published() -> None:
    corpus = PTBCharacters().load()
    assert list(corpus.counts.values()) == [5_017_482, 393_042, 442_423]
    assert corpus.sizes == PTBCharacters().sizes() == (50,)
    assert math.isclose(5_017_482, PTBCharacters().train_tokens(None))

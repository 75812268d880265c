"""dataset=wikitext2: every line ends, also a blank one."""

import os
import re
from hashlib import sha256
from pathlib import Path

import pytest

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.corpus import END_OF_SENTENCE, SPLITS, UNKNOWN, Corpus, read_words
from sparse_rnn.data.language import corpora
from sparse_rnn.data.language.corpora import WikiText2

PAGE = " \n = Homarus gammarus = \n \n A lobster of <unk> , 0 @.@ 5 m . \n \n"
WORDS = re.findall(r"\S+", "<eos> = Homarus gammarus = <eos> <eos> A lobster of <unk> , 0 @.@ 5 m . <eos> <eos>")


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three short files in the place and format of the published ones."""
    texts = {"train": PAGE, "valid": " \n = Crab = \n", "test": " \n <unk> \n \n"}
    folder = tmp_path / "wikitext2"
    folder.mkdir()
    for split, text in texts.items():
        (folder / f"wiki.{split}.tokens").write_text(text)
    published = {f"wiki.{s}.tokens": (f"{s}.txt", sha256(text.encode()).hexdigest()) for s, text in texts.items()}
    monkeypatch.setattr(corpora, "WIKITEXT2_FILES", published)
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path))
    return folder


def words(corpus: Corpus, split: str) -> list[str]:
    return [corpus.vocabulary.words[i] for i in corpus.splits[split].tolist()]


def test_every_line_ends_also_a_blank_one(files: Path) -> None:
    corpus = WikiText2().load()
    assert words(corpus, "train") == WORDS
    assert words(corpus, "valid") == [END_OF_SENTENCE, "=", "Crab", "=", END_OF_SENTENCE]
    assert words(corpus, "test") == [END_OF_SENTENCE, UNKNOWN, END_OF_SENTENCE, END_OF_SENTENCE]


def test_the_vocabulary_is_that_of_all_splits_in_order(files: Path) -> None:
    corpus = WikiText2().load()
    assert corpus.vocabulary.words == [*dict.fromkeys(WORDS), "Crab"]
    assert corpus.sizes == (15,)


def test_another_content_is_refused(files: Path) -> None:
    (files / "wiki.valid.tokens").write_text(" \n = Shrimp = \n")
    with pytest.raises(ConfigError, match=r"wiki\.valid\.tokens is not the published wikitext2 file"):
        WikiText2().load()


@pytest.mark.parametrize(("text", "ends"), [("a\n\nb\n", 3), ("a\n\nb", 3), ("a\n\nb\n\n", 4), ("\na", 2)])
def test_one_line_feed_at_the_end_is_no_line_of_its_own(text: str, ends: int, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text(text)
    assert read_words(path, "train", blank_lines=True).count(END_OF_SENTENCE) == ends
    assert read_words(path, "train").count(END_OF_SENTENCE) == len(text.split())


@pytest.mark.parametrize("content", ["", " \n\n\t\n"], ids=["no bytes", "blank lines"])
def test_blank_lines_alone_are_an_empty_file(content: str, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"^dataset\.train=.* is empty\.$"):
        read_words(path, "train", blank_lines=True)


def test_its_size_is_known_without_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path / "nowhere"))
    assert compose_run(["model=awd_lstm_mos", "dataset=wikitext2"]).dataset.sizes() == (33_278,)


@pytest.mark.skipif(
    not (Path(os.environ.get("SPARSE_RNN_DATA", "-")) / "wikitext2").is_dir(),
    reason="no wikitext2 folder in $SPARSE_RNN_DATA",
)
def test_wikitext2_is_as_published() -> None:
    corpus = WikiText2().load()
    assert [corpus.splits[split].numel() for split in SPLITS] == [2_088_628, 217_646, 245_569]
    assert (len(corpus.vocabulary),) == corpus.sizes == WikiText2().sizes() == (33_278,)
    assert WikiText2().train_tokens(None) == 2_088_628
    assert words(corpus, "valid")[:5] == ["<eos>", "=", "Homarus", "gammarus", "="]

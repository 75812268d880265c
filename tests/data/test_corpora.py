"""The data sets by name: their words, their vocabulary, their errors."""

import os
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest
from refusals import refusal

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.corpus import END_OF_SENTENCE, SPLITS, UNKNOWN, Corpus, make_corpus
from sparse_rnn.data.language.corpora import PTB, PyDoc, Text

GOOD = "the cat sat\non the mat\n"


def words(corpus: Corpus, split: str) -> list[str]:
    return [corpus.vocabulary.words[i] for i in corpus.splits[split].tolist()]


def text_files(folder: Path, **contents: str | bytes) -> Text:
    """dataset=text with GOOD in every split that is not in `contents`."""
    paths = [folder / f"{split}.txt" for split in SPLITS]
    for split, path in zip(SPLITS, paths, strict=True):
        content = contents.get(split, GOOD)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    train, valid, test = map(str, paths)
    return Text(train=train, valid=valid, test=test)


def test_text_keeps_every_word_and_ends_sentences(tmp_path: Path) -> None:
    corpus = text_files(tmp_path, train="the cat  sat\n\n \non\tthe mat", valid="a dog\r\nsat\n").load()
    assert words(corpus, "train") == ["the", "cat", "sat", END_OF_SENTENCE, "on", "the", "mat", END_OF_SENTENCE]
    assert words(corpus, "valid") == ["a", "dog", END_OF_SENTENCE, "sat", END_OF_SENTENCE]
    assert corpus.vocabulary.words == ["the", "cat", "sat", END_OF_SENTENCE, "on", "mat", "a", "dog"]


def test_only_a_line_feed_ends_a_sentence(tmp_path: Path) -> None:
    corpus = text_files(tmp_path, train="one\x0ctwo\u2028three\x85four\n").load()
    assert words(corpus, "train") == ["one", "two", "three", "four", END_OF_SENTENCE]


def test_a_byte_order_mark_is_not_part_of_a_word(tmp_path: Path) -> None:
    corpus = text_files(tmp_path, train=b"\xef\xbb\xbfthe cat\n").load()
    assert words(corpus, "train") == ["the", "cat", END_OF_SENTENCE]


def test_min_count_counts_the_training_split_alone(tmp_path: Path) -> None:
    dataset = text_files(tmp_path, train="a b a c b a\n", valid="c c c a new\n", test="b\n")
    dataset.vocabulary, dataset.min_count = "train", 2
    corpus = dataset.load()
    assert corpus.vocabulary.words == [UNKNOWN, "a", "b"]
    assert words(corpus, "train") == ["a", "b", "a", UNKNOWN, "b", "a", UNKNOWN]
    assert words(corpus, "valid") == [UNKNOWN, UNKNOWN, UNKNOWN, "a", UNKNOWN, UNKNOWN]
    assert dataset.sizes() == (3,)


def test_the_hash_tells_texts_and_splits_apart(tmp_path: Path) -> None:
    def sha256(**contents: str) -> str:
        return text_files(tmp_path, **contents).load().sha256

    assert sha256() == sha256(train=GOOD + "\n")
    variants = [sha256(), sha256(train=GOOD + "more\n"), sha256(valid="other words\n"), sha256(test="other words\n")]
    assert len(set(variants)) == 4


def test_limited_cuts_every_split(tmp_path: Path) -> None:
    corpus = text_files(tmp_path).load()
    short = corpus.limited(5, 3)
    assert {split: tokens.tolist() for split, tokens in short.splits.items()} == {
        split: corpus.splits[split][: 5 if split == "train" else 3].tolist() for split in SPLITS
    }
    assert corpus.limited(None, None).splits["train"].equal(corpus.splits["train"])


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("content", ["", " \n\n\t\n"], ids=["no bytes", "blank lines"])
def test_an_empty_file_is_refused(content: str, split: str, tmp_path: Path) -> None:
    assert refusal(text_files(tmp_path, **{split: content})) == f"dataset.{split}={tmp_path}/{split}.txt is empty."


def test_a_wrong_encoding_is_refused(tmp_path: Path) -> None:
    sentence = refusal(text_files(tmp_path, valid="the café\n".encode("latin-1")))
    where = "line 1, is not UTF-8 text (byte 8 of the line is 0xE9)"
    assert f"dataset.valid={tmp_path}/valid.txt, {where}: convert it to UTF-8, " in sentence


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize(
    ("content", "line"),
    [
        (GOOD.encode("utf-16-le"), 1),
        (GOOD.encode("utf-16-be"), 1),
        (GOOD.encode("utf-32-le"), 1),
        (f"{GOOD}a b\0 c\n".encode(), 3),
        (b"\0" * 4096, 1),
        (GOOD.encode() + b"\0", 3),
    ],
    ids=["16 LE", "16 BE", "32 LE", "third line", "zeros alone", "at the end"],
)
def test_nul_bytes_are_refused(content: bytes, line: int, split: str, tmp_path: Path) -> None:
    begin = f"dataset.{split}={tmp_path}/{split}.txt, line {line}, has a NUL byte"
    sentence = refusal(text_files(tmp_path, **{split: content}))
    assert sentence == f"{begin}, as UTF-16 has: convert it to UTF-8."


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    dataset = text_files(tmp_path)
    Path(dataset.test).unlink()
    assert refusal(dataset) == f"dataset.test={tmp_path}/test.txt does not exist."


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    dataset = text_files(tmp_path)
    dataset.train = str(tmp_path)
    assert refusal(dataset) == f"dataset.train={tmp_path} cannot be read: Is a directory."


@pytest.mark.parametrize("min_count", [1, 2])
def test_a_vocabulary_of_one_word_is_refused(min_count: int, tmp_path: Path) -> None:
    dataset = text_files(tmp_path, train="spam spam\nspam\n")
    dataset.vocabulary, dataset.min_count = "train", min_count
    assert "vocabulary of one word" in refusal(dataset)


def test_a_min_count_that_no_word_reaches_is_refused(tmp_path: Path) -> None:
    dataset = text_files(tmp_path)
    dataset.vocabulary, dataset.min_count = "train", 100
    assert "vocabulary of one word" in refusal(dataset)


def test_an_empty_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="The test split of the data set is empty"):
        make_corpus({"train": ["a", "b"], "valid": ["a"], "test": []})


def test_missing_splits_are_named_by_the_command_line(tmp_path: Path) -> None:
    given = f"dataset.train={tmp_path}/train.txt"
    with pytest.raises(ConfigError, match=r"^dataset=text needs dataset\.valid=FILE and dataset\.test=FILE\.$"):
        compose_run(["dataset=text", given])


@pytest.mark.parametrize("dataset", ["pydoc", "text"])
def test_a_min_count_below_one_is_refused_by_the_command_line(dataset: str) -> None:
    files = [f"dataset.{split}=x.txt" for split in SPLITS] if dataset == "text" else []
    with pytest.raises(ConfigError, match=r"^dataset\.min_count=0 must be at least 1\.$"):
        compose_run([f"dataset={dataset}", *files, "dataset.min_count=0"])


@pytest.fixture(scope="module")
def pydoc() -> Corpus:
    return PyDoc().load()


def test_pydoc_is_split_by_topic(monkeypatch: pytest.MonkeyPatch) -> None:
    invented = {
        f"topic {letter}": f"Word_{letter} and\nWORD_{letter},\n\n{letter}.\n" for letter in "abcdefghijklmnopqrst"
    }
    monkeypatch.setattr("pydoc_data.topics.topics", invented)
    corpus = PyDoc(min_count=1).load()
    letters = {split: [word[-1] for word in words(corpus, split) if word.startswith("word_")] for split in SPLITS}
    assert {split: len(found) for split, found in letters.items()} == {"train": 32, "valid": 4, "test": 4}
    assert sorted(letter for found in letters.values() for letter in found) == sorted("abcdefghijklmnopqrst" * 2)
    assert not any(set(letters[one]) & set(letters[other]) for one, other in combinations(SPLITS, 2))
    assert letters["train"] != sorted(letters["train"]), "the alphabet does not decide"
    letter = letters["valid"][0]
    first = [f"word_{letter}", "and", f"word_{letter}", ",", END_OF_SENTENCE, letter, ".", END_OF_SENTENCE]
    assert words(corpus, "valid")[:8] == first


def test_pydoc_is_the_same_every_time(pydoc: Corpus) -> None:
    again = PyDoc().load()
    assert again.sha256 == pydoc.sha256
    assert again.vocabulary.words == pydoc.vocabulary.words


def test_pydoc_is_large_enough_to_train_on(pydoc: Corpus) -> None:
    assert pydoc.splits["train"].numel() > 50_000
    assert min(pydoc.splits[split].numel() for split in ("valid", "test")) > 1_000
    assert pydoc.sizes == PyDoc().sizes()
    assert pydoc.sizes[0] > 1_000


def test_pydoc_words_are_lower_case_and_rare_ones_unknown(pydoc: Corpus) -> None:
    assert all(word == word.lower() and not any(c.isspace() for c in word) for word in pydoc.vocabulary.words)
    counts = Counter(words(pydoc, "train"))
    assert all(n >= 3 for word, n in counts.items() if word != UNKNOWN)
    assert 0 < counts[UNKNOWN] < 0.1 * pydoc.splits["train"].numel()
    assert set(words(pydoc, "test")) <= {UNKNOWN, *counts}


@pytest.mark.skipif(
    not (Path(os.environ.get("SPARSE_RNN_DATA", "-")) / "ptb").is_dir(), reason="no ptb folder in $SPARSE_RNN_DATA"
)
def test_the_penn_treebank_is_as_published() -> None:
    corpus = PTB().load()
    assert [corpus.splits[split].numel() for split in SPLITS] == [929_589, 73_760, 82_430]
    assert corpus.sizes == PTB().sizes() == (10_000,)
    assert PTB().train_tokens(None) == 929_589
    assert words(corpus, "valid")[:9] == [
        "consumers",
        "may",
        "want",
        "to",
        "move",
        "their",
        "telephones",
        "a",
        "little",
    ]

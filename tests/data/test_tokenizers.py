"""Texts to numbers and back, and what is kept of a vocabulary."""

import json
from typing import Any

import pytest
import torch

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.corpus import Vocabulary, make_corpus
from sparse_rnn.data.labelled.texts import Encoding, make_labelled_texts
from sparse_rnn.data.tokenizers import TextTokenizer, WordTokenizer, from_json, to_json, tokenizer_of

WORDS = WordTokenizer(Vocabulary(["<unk>", "the", "cat", "<eos>", "sat"]), "0a")
TEXTS = TextTokenizer(("good", "bad", "caf\u00e9", "\ud83d"), 4, ("no", "yes"), "0b")


@pytest.mark.parametrize(
    ("text", "numbers", "back"),
    [
        ("the cat", [1, 2], "the cat"),
        ("the  cat\tsat\n", [1, 2, 4, 3], "the cat sat\n"),
        ("the\ncat", [1, 3, 2], "the\ncat"),
        ("the\r\n\n\ncat", [1, 3, 2], "the\ncat"),
        ("the dog", [1, 0], "the <unk>"),
        ("", [], ""),
    ],
)
def test_words_and_sentences(text: str, numbers: list[int], back: str) -> None:
    tokens = WORDS.encode(text)
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == numbers
    assert WORDS.decode(tokens) == WORDS.decode(numbers) == back


def test_blank_lines_count_where_the_data_say_so() -> None:
    assert WordTokenizer(WORDS.vocabulary, "", blank_lines=True).encode("the\n\ncat").tolist() == [1, 3, 3, 2]


def test_a_word_without_a_number_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=r"^dog is not a word of the data set, which has no <unk> either\.$"):
        WordTokenizer(Vocabulary(["the"]), "").encode("the dog")


@pytest.mark.parametrize(
    ("text", "numbers", "back"),
    [
        ("Good, BAD!", [0, 0, 1, 2], "good bad"),
        ("bad good bad good caf\u00e9", [1, 2, 1, 3], "good bad good caf\u00e9"),
        ("nothing known", [0, 0, 0, 0], ""),
        ("", [0, 0, 0, 0], ""),
    ],
)
def test_texts_of_a_classifier(text: str, numbers: list[int], back: str) -> None:
    tokens = TEXTS.encode(text)
    assert tokens.dtype == torch.int64
    assert tokens.tolist() == numbers
    assert TEXTS.decode(tokens) == back


def test_they_number_texts_as_the_data_do() -> None:
    splits = {"train": ["a", "b", "a", "<x>", "b", "c", "a"], "valid": ["a"], "test": ["b"]}
    corpus = make_corpus(splits, 1, blank_lines=True)
    tokenizer = tokenizer_of(corpus)
    assert isinstance(tokenizer, WordTokenizer)
    assert tokenizer.encode("a b a <x> b").equal(corpus.splits["train"][:5])
    assert (tokenizer.blank_lines, tokenizer.data_sha256) == (True, corpus.sha256)
    examples = [("up" if n % 2 else "down", f"Word{n % 5} and, word{n}") for n in range(20)]
    texts = make_labelled_texts({"train": examples, "valid": examples, "test": examples[:3]}, Encoding(9, 2, 0.1))
    found = tokenizer_of(texts)
    assert isinstance(found, TextTokenizer)
    assert len(found.words) == texts.words == 8
    for (_, text), row in zip(examples, texts.splits["train"].tokens, strict=True):
        assert found.encode(text).equal(row.long())
    assert found.classes == ("down", "up")
    assert found.no_text(texts.sizes).sizes == texts.sizes
    assert tokenizer.no_text(corpus.sizes).sizes == corpus.sizes


def test_what_is_kept_is_read_back() -> None:
    assert to_json(TEXTS).isascii()
    read = from_json(to_json(TEXTS).encode(), [5, 2])
    assert read == TEXTS
    words = from_json(to_json(WORDS).encode(), [5])
    assert isinstance(words, WordTokenizer)
    assert words.vocabulary.words == WORDS.vocabulary.words
    assert words.kept() == WORDS.kept()


@pytest.mark.parametrize(
    ("tokenizer", "sizes", "changes"),
    [
        (WORDS, [5], {"words": None}),
        (WORDS, [5], {"words": ["a", 1, "b", "c", "d"]}),
        (WORDS, [5], {"words": ["a", "a", "b", "c", "d"]}),
        (WORDS, [5], {"words": ["a"]}),
        (WORDS, [5], {"data_sha256": 1}),
        (WORDS, [5], {"blank_lines": "no"}),
        (WORDS, [6], {}),
        (WORDS, [5, 2], {}),
        (TEXTS, [5, 2], {"classes": ["no"]}),
        (TEXTS, [5, 2], {"classes": "no"}),
        (TEXTS, [5, 2], {"length": 0}),
        (TEXTS, [5, 2], {"length": 10**12}),
        (TEXTS, [5, 2], {"length": None}),
        (TEXTS, [4, 2], {}),
        (TEXTS, [5], {}),
    ],
)
def test_what_is_not_of_the_model_is_refused(tokenizer: Any, sizes: list[int], changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_json(json.dumps({**tokenizer.kept(), **changes}).encode(), sizes)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", "[" * 100_000, '{"words": "x"}'])
def test_what_is_no_tokenizer_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        from_json(text.encode(), [5])

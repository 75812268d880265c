"""Labelled texts as numbers: Keras' rules by hand and against a plain re-implementation, splits, hashes, limits."""

import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import numpy as np
import pytest
import torch

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.corpus import SPLITS
from sparse_rnn.data.labelled.texts import Encoding, Labelled, LabelledTexts, make_labelled_texts, words_of

ENCODING = Encoding(vocabulary=20, length=4, valid_share=0.3)
TRAIN: list[Labelled] = [("up", "b a b"), ("down", "c a c d")]
OTHER: list[Labelled] = [("up", "a")]


def encode(train: Sequence[Labelled] = TRAIN, test: Sequence[Labelled] = OTHER, **settings: Any) -> LabelledTexts:
    """With a validation split of its own, so that every training text counts."""
    return make_labelled_texts({"train": train, "valid": OTHER, "test": test}, replace(ENCODING, **settings))


def tokens(texts: LabelledTexts, split: str) -> list[list[int]]:
    rows: list[list[int]] = texts.splits[split].tokens.tolist()
    return rows


def distinct(count: int) -> list[Labelled]:
    """Texts of one word each, which no other has."""
    return [("up" if i % 2 else "down", f"word{i}") for i in range(count)]


def test_words_are_those_of_keras() -> None:
    text = "Don't STOP\tthe <br />film\nis A+; x_y (1.5)  caf\u00c9\u2014bar"
    assert list(words_of(text)) == ["don't", "stop", "the", "br", "film", "is", "a", "x", "y", "1", "5", "café—bar"]
    assert list(words_of("one\u00a0two\rthree\x0cfour five")) == ["one\u00a0two\rthree\x0cfour", "five"]
    assert list(words_of(" \t\n.,! ")) == []


def test_words_are_numbered_by_frequency_then_by_first_appearance() -> None:
    # b 2, a 2, c 2, d 1
    assert tokens(encode(), "train") == [[0, 1, 2, 1], [3, 2, 3, 4]]


def test_the_vocabulary_counts_padding_and_other_words_are_left_out_before_texts_are_cut() -> None:
    texts = encode(vocabulary=3, length=2)
    assert (texts.words, texts.sizes) == (2, (3, 2))
    assert tokens(texts, "train") == [[2, 1], [0, 2]]


def test_the_last_words_are_kept_and_short_texts_filled_on_the_left() -> None:
    texts = encode(train=[("up", "a b c d e"), ("down", "a b c d"), ("up", "a"), ("down", "...")])
    assert tokens(texts, "train") == [[2, 3, 4, 5], [1, 2, 3, 4], [0, 0, 0, 1], [0, 0, 0, 0]]
    assert texts.splits["train"].tokens.dtype == torch.int32
    assert texts.splits["train"].labels.dtype == torch.int64


def test_words_that_only_the_test_texts_have_are_left_out() -> None:
    assert tokens(encode(test=[("up", "new a word"), ("down", "new")]), "test") == [[0, 0, 0, 2], [0, 0, 0, 0]]


def test_classes_are_the_sorted_labels_or_as_given() -> None:
    texts = encode()
    assert texts.classes == ("down", "up")
    assert texts.splits["train"].labels.tolist() == [1, 0]
    given = make_labelled_texts({"train": TRAIN, "valid": OTHER, "test": OTHER}, ENCODING, ("up", "flat", "down"))
    assert given.classes == ("up", "flat", "down")
    assert given.splits["train"].labels.tolist() == [0, 2]
    assert given.sizes == (20, 3)


def by_loops(train: list[Labelled], texts: list[Labelled], vocabulary: int, length: int) -> list[list[int]]:
    """Tokenizer(num_words=vocabulary), texts_to_sequences and pad_sequences(maxlen=length), as their pages say."""

    def words(text: str) -> list[str]:
        return [w for w in re.sub(r"""[!"#$%&()*+,\-./:;<=>?@\[\\\]^_`{|}~\t\n]""", " ", text.lower()).split(" ") if w]

    counts = Counter(word for _, text in train for word in words(text))
    index = {word: i for i, (word, _) in enumerate(sorted(counts.items(), key=lambda item: -item[1]), 1)}
    rows = []
    for _, text in texts:
        row = [index[word] for word in words(text) if index.get(word, vocabulary) < vocabulary][-length:]
        rows.append([0] * (length - len(row)) + row)
    return rows


@pytest.mark.parametrize(("vocabulary", "length"), [(2, 3), (15, 10), (400, 40)])
def test_against_plain_loops(vocabulary: int, length: int) -> None:
    draw = random.Random(1)
    words = [f"W{i}{draw.choice(['', '.', '-x', '!'])}" for i in range(60)]

    def some(count: int) -> list[Labelled]:
        weights = [1 / (i + 1) for i in range(60)]
        sizes = [draw.randrange(30) for _ in range(count)]
        return [(draw.choice(["up", "down"]), " ".join(draw.choices(words, weights, k=size))) for size in sizes]

    train, test = [*some(80), ("up", "a"), ("down", "b")], some(20)
    texts = encode(train, test, vocabulary=vocabulary, length=length)
    assert tokens(texts, "train") == by_loops(train, train, vocabulary, length)
    assert tokens(texts, "test") == by_loops(train, test, vocabulary, length)


def held_out(count: int, **settings: Any) -> LabelledTexts:
    return make_labelled_texts({"train": distinct(count), "test": OTHER}, replace(ENCODING, length=1, **settings))


def test_validation_texts_are_held_out_before_words_are_counted() -> None:
    texts = held_out(10)
    assert texts.counts == {"train": 7, "valid": 3, "test": 1}
    assert texts.words == 7
    assert tokens(texts, "train") == [[n] for n in range(1, 8)], "all others, in their order"
    assert tokens(texts, "valid") == [[0]] * 3, "none of them is a training text"


def test_what_is_held_out_is_drawn_by_a_fixed_seed() -> None:
    def drawn() -> tuple[list[int], str]:
        texts = make_labelled_texts(
            {"train": [(f"{i:03}", f"word{i}") for i in range(500)], "test": [("000", "a")]}, ENCODING
        )
        labels: list[int] = texts.splits["valid"].labels.tolist()
        assert sorted(labels + texts.splits["train"].labels.tolist()) == list(range(500))
        return labels, texts.sha256

    first = drawn()
    torch.manual_seed(99)
    before = torch.get_rng_state()
    assert drawn() == first
    assert torch.get_rng_state().equal(before), "the global generator is left alone"
    numbers = first[0]
    assert len(numbers) == 150
    assert numbers == sorted(numbers)
    assert 200 < np.mean(numbers) < 300, "from everywhere"
    assert len(set(np.diff(numbers))) > 2, "at no fixed distance"


@pytest.mark.parametrize(("count", "share", "valid"), [(10, 0.01, 1), (10, 0.99, 10), (3, 0.5, 2)])
def test_the_share_is_rounded_and_at_least_one_text(count: int, share: float, valid: int) -> None:
    if valid == count:
        with pytest.raises(ConfigError, match=r"^The train split of the data set is empty\.$"):
            held_out(count, valid_share=share)
    else:
        assert held_out(count, valid_share=share).counts["valid"] == valid


def test_a_class_may_stand_in_the_held_out_texts_alone() -> None:
    train = [(f"class{i}", "word") for i in range(10)]
    texts = make_labelled_texts({"train": train, "test": [("class0", "word")]}, ENCODING)
    assert len(texts.classes) == 10


def test_a_test_split_is_drawn_where_there_is_none() -> None:
    texts = [(f"{i:03}", "word") for i in range(500)]
    made = make_labelled_texts({"train": texts}, ENCODING, test_share=0.2)
    assert made.counts == {"train": 280, "valid": 120, "test": 100}
    labels = {split: made.splits[split].labels.tolist() for split in SPLITS}
    assert sorted(chain.from_iterable(labels.values())) == list(range(500)), "every text once"
    assert labels["test"] != sorted(labels["test"])
    assert labels["train"][:140] != sorted(labels["train"][:140]), "sorted files have every class at the start"
    torch.manual_seed(5)
    again = make_labelled_texts({"train": texts}, ENCODING, test_share=0.2)
    assert again.splits["test"].labels.tolist() == labels["test"]


def test_the_hash_tells_texts_labels_order_splits_and_settings_apart() -> None:
    swapped = make_labelled_texts({"train": TRAIN, "valid": TRAIN, "test": OTHER}, ENCODING)
    variants = [
        encode(),
        encode(train=TRAIN[::-1]),
        encode(train=[("down", "b a b"), ("up", "c a c d")]),
        encode(train=[("up", "b a  b"), TRAIN[1]]),
        encode(test=[*OTHER, *OTHER]),
        encode(vocabulary=21),
        encode(length=5),
        encode(valid_share=0.2),
        swapped,
    ]
    assert len({texts.sha256 for texts in variants}) == len(variants)
    assert encode().sha256 == variants[0].sha256
    assert re.fullmatch("[0-9a-f]{64}", variants[0].sha256)


def test_half_a_surrogate_pair_as_json_may_hold_is_a_word() -> None:
    assert encode(train=[("up", "a \ud83d"), ("down", "b")]).words == 3


def test_limited_counts_in_tokens_and_keeps_at_least_one_text() -> None:
    texts = held_out(10)  # of length 1
    texts = replace(texts, splits={s: replace(x, tokens=x.tokens.repeat(1, 4)) for s, x in texts.splits.items()})
    assert texts.limited(11, 8).counts == {"train": 2, "valid": 2, "test": 1}
    assert texts.limited(3, 0).counts == {"train": 1, "valid": 1, "test": 1}
    assert texts.limited(None, None).counts == texts.counts
    short = texts.limited(8, None)
    assert short.splits["train"].tokens.equal(texts.splits["train"].tokens[:2])
    assert short.splits["train"].labels.equal(texts.splits["train"].labels[:2])
    assert (short.sha256, short.sizes, short.words, short.unit) == (texts.sha256, texts.sizes, texts.words, "texts")


@pytest.mark.parametrize(
    ("train", "sentence"),
    [
        ([], "The train split of the data set is empty."),
        ([("up", "a"), ("up", "b")], "The train split of the data set has texts of one class: a classifier needs two."),
        ([("up", "."), ("down", "")], "The train split of the data set has no words."),
    ],
    ids=["empty", "one class", "no words"],
)
def test_what_cannot_be_learned_is_refused(train: list[Labelled], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        encode(train=train)
    assert str(caught.value) == sentence


def test_an_empty_test_split_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^The test split of the data set is empty\.$"):
        encode(test=[])

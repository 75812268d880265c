"""Word-count baselines against numbers worked out by hand and by plain loops."""

import math
from collections import Counter
from itertools import pairwise

import pytest
import torch

from sparse_rnn.data.baselines import DISCOUNT, _kneser_ney, word_models
from sparse_rnn.data.corpus import Corpus, Vocabulary

Words = list[int]


def corpus(train: Words, valid: Words, words: int) -> Corpus:
    splits = {"train": torch.tensor(train), "valid": torch.tensor(valid), "test": torch.tensor(valid)}
    return Corpus(Vocabulary(map(str, range(words))), splits, "")


def bigram_by_loops(train: Words, history: int, word: int, words: int) -> float:
    """Kneser-Ney as in the textbooks, with one added to every continuation count."""
    pairs = Counter(pairwise(train))
    continuation = (sum(second == word for _, second in pairs) + 1) / (len(pairs) + words)
    total = sum(n for (first, _), n in pairs.items() if first == history)
    if not total:
        return continuation
    followers = sum(first == history for first, _ in pairs)
    return (max(pairs[history, word] - DISCOUNT, 0) + DISCOUNT * followers * continuation) / total


def random_text(length: int, words: int, seed: int) -> Words:
    """Some words often, some never."""
    weights = torch.arange(words).double() ** 2
    drawn: Words = torch.multinomial(
        weights, length, replacement=True, generator=torch.Generator().manual_seed(seed)
    ).tolist()
    return drawn


def test_by_hand() -> None:
    # Training text a b a b a c: a 3, b 2, c 1 of 6. Pairs ab 2, ba 2, ac 1: each word follows one other.
    # unigram: a 4/9, b 3/9, c 2/9; bigram: b|a = 1.25/3 + 0.75 x 2/3 x 1/3, c|b = 0.75 x 1/2 x 1/3.
    unigram, bigram = word_models(corpus([0, 1, 0, 1, 0, 2], [0, 1, 2], 3))
    assert unigram == pytest.approx((4 / 9 * 3 / 9 * 2 / 9) ** (-1 / 3))
    assert bigram == pytest.approx((1.75 / 3 * 0.125) ** (-1 / 2))


def test_a_history_never_seen_leaves_the_continuation() -> None:
    _, bigram = word_models(corpus([0, 1, 0, 1, 0, 2], [2, 0], 3))
    assert bigram == pytest.approx(3.0)


def test_against_plain_loops() -> None:
    words, train, valid = 12, random_text(300, 12, 1), [*random_text(80, 12, 2), 0, 5, 0]
    unigram, bigram = word_models(corpus(train, valid, words))
    counts = Counter(train)
    by_word = [(counts[word] + 1) / (len(train) + words) for word in valid]
    by_pair = [bigram_by_loops(train, *pair, words) for pair in pairwise(valid)]
    assert unigram == pytest.approx(math.exp(-sum(map(math.log, by_word)) / len(by_word)))
    assert bigram == pytest.approx(math.exp(-sum(map(math.log, by_pair)) / len(by_pair)))


def test_bigram_probabilities_sum_to_one_for_every_history() -> None:
    words, train = 12, random_text(60, 12, 3)
    assert len(set(train)) < words, "some histories were never seen"
    every_pair = [w for history in range(words) for word in range(words) for w in (history, word)]
    probabilities = _kneser_ney(torch.tensor(train), torch.tensor(every_pair), words)[::2].view(words, words)
    assert (probabilities > 0).all()
    assert probabilities.sum(1).tolist() == pytest.approx([1.0] * words)

"""What word counts and mean images alone achieve, as a comparison for perplexities and accuracies."""

import math

import torch
from torch import Tensor

from sparse_rnn.data.corpus import Corpus
from sparse_rnn.data.labelled.texts import LabelledTexts
from sparse_rnn.data.sequences.images import Images

DISCOUNT = 0.75  # D
MOST_COUNTED = 10_000_000  # tokens: to count more takes longer than it tells


def word_models(corpus: Corpus) -> tuple[float, float]:
    """Perplexity on the validation split of a unigram model (add one) and of a bigram model.

    The bigram model is interpolated Kneser-Ney with one discount of 0.75 (Kneser & Ney 1995). Both count the first
    MOST_COUNTED tokens of the training split.
    """
    train, valid = (corpus.splits[split][:MOST_COUNTED].long() for split in ("train", "valid"))
    words = len(corpus.vocabulary)
    counts = torch.bincount(train, minlength=words).double()
    unigram = (counts + 1) / (train.numel() + words)
    return _perplexity(unigram[valid]), _perplexity(_kneser_ney(train, valid, words))


def _kneser_ney(train: Tensor, valid: Tensor, words: int) -> Tensor:
    """Probability of each token of `valid` after the first, given the one before, float64 [tokens - 1].

    P(w | v) = max(c(vw) - D, 0) / c(v) + D n(v) / c(v) P(w), where n(v) is the number of different words after v, and
    P(w) the share of all different pairs that end in w (add one); for an unseen v it is P(w) alone.
    """
    pairs, times = torch.unique(train[:-1] * words + train[1:], return_counts=True)
    first, second = pairs // words, pairs % words
    history = torch.bincount(train[:-1], minlength=words).double()
    followers = torch.bincount(first, minlength=words).double()
    continuation = (torch.bincount(second, minlength=words).double() + 1) / (pairs.numel() + words)
    asked = valid[:-1] * words + valid[1:]
    place = torch.searchsorted(pairs, asked).clamp(max=pairs.numel() - 1)
    seen = torch.where(pairs[place] == asked, times[place].double(), 0.0)
    before, after = valid[:-1], valid[1:]
    known = history[before] > 0
    total = history[before].clamp(min=1)
    backoff = torch.where(known, DISCOUNT * followers[before] / total, 1.0)
    smoothed: Tensor = (seen - DISCOUNT).clamp(min=0) / total + backoff * continuation[after]
    return smoothed


def _perplexity(probabilities: Tensor) -> float:
    return math.exp(-float(probabilities.log().mean()))


def image_models(images: Images) -> tuple[float, float]:
    """Accuracy on the validation split of the most frequent training class, and of the class with the nearest mean."""
    train, valid = images.splits["train"], images.splits["valid"]
    classes = images.sizes[1]
    frequency = torch.bincount(train.labels, minlength=classes)
    sums = torch.zeros(classes, train.length, dtype=torch.float64).index_add_(0, train.labels, train.pixels.double())
    means = sums / frequency.clamp(min=1)[:, None]
    distances = torch.cdist(valid.pixels.double(), means).masked_fill(frequency == 0, math.inf)
    majority = (valid.labels == frequency.argmax()).double().mean()
    return float(majority), float((valid.labels == distances.argmin(dim=1)).double().mean())


def class_models(texts: LabelledTexts) -> tuple[float, float]:
    """Accuracy on the validation split of the most frequent training class, and of multinomial naive Bayes (add one).

    Both see the same tokens as the model, without the padding.
    """
    train, valid, classes = texts.splits["train"], texts.splits["valid"], len(texts.classes)
    frequency = torch.bincount(train.labels, minlength=classes).double()
    cells = train.labels[:, None] * texts.vocabulary + train.tokens
    counts = torch.bincount(cells[train.tokens > 0], minlength=classes * texts.vocabulary)
    words = (counts.view(classes, -1).double() + 1).log()
    words = words - words.logsumexp(dim=1, keepdim=True)
    words[:, 0] = 0  # padding says nothing about the class
    scores = torch.stack([of_class[valid.tokens.long()].sum(dim=1) for of_class in words], dim=1)
    guesses = (scores + (frequency / frequency.sum()).log()).argmax(dim=1)
    majority = (valid.labels == frequency.argmax()).double().mean()
    return float(majority), float((guesses == valid.labels).double().mean())

"""Labelled texts as token numbers, encoded as Keras does by default."""

import hashlib
import json
from array import array
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.progress import bar
from sparse_rnn.core.random import generator
from sparse_rnn.data.corpus import SPLITS

Labelled = tuple[str, str]  # name of the class, text
Integers = npt.NDArray[np.int64]
FILTERED = '!"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n'
TEXTS_AT_ONCE = 1000  # between two looks at the bar
BLANKS = str.maketrans(dict.fromkeys(FILTERED, " "))


@dataclass(frozen=True)
class LabelledSplit:
    """tokens: int32 [texts, length], where 0 is padding. labels: int64 [texts]."""

    tokens: Tensor
    labels: Tensor

    @property
    def length(self) -> int:
        """Tokens of a text."""
        return self.tokens.shape[1]

    def inputs(self, chosen: Tensor) -> Tensor:
        """The tokens of these texts, int64 [length, texts]."""
        return self.tokens[chosen].t().to(torch.int64).contiguous()

    def first(self, texts: int | None) -> "LabelledSplit":
        """The first `texts` texts (None: all)."""
        return LabelledSplit(self.tokens[:texts], self.labels[:texts])

    def to(self, device: torch.device) -> "LabelledSplit":
        """The split on a device."""
        return LabelledSplit(self.tokens.to(device), self.labels.to(device))


@dataclass(frozen=True)
class LabelledTexts:
    """Three splits and the names of the classes.

    vocabulary: rows of the embedding. words: how many of its rows, from 1, stand for a word. sha256: of texts, labels,
    order and settings. known: the words in the order of their numbers.
    """

    unit: ClassVar[str] = "texts"
    size_names: ClassVar[tuple[str, ...]] = ("words", "classes")
    splits: Mapping[str, LabelledSplit]
    classes: tuple[str, ...]
    vocabulary: int
    words: int
    sha256: str
    known: tuple[str, ...] = ()

    @property
    def sizes(self) -> tuple[int, int]:
        """Rows of the embedding, number of classes."""
        return self.vocabulary, len(self.classes)

    @property
    def counts(self) -> dict[str, int]:
        """Number of texts of each split."""
        return {name: split.labels.numel() for name, split in self.splits.items()}

    def limited(self, train: int | None, other: int | None) -> "LabelledTexts":
        """The first texts of each split: as many as fit into `train` and `other` tokens, at least one (None: all)."""
        length = self.splits["train"].tokens.shape[1]
        texts = {name: train if name == "train" else other for name in self.splits}
        cut = {
            name: split.first(None if (tokens := texts[name]) is None else max(1, tokens // length))
            for name, split in self.splits.items()
        }
        return replace(self, splits=cut)


@dataclass(frozen=True)
class Encoding:
    """vocabulary: rows of the embedding. length: tokens per text. valid_share: share of the training texts held out."""

    vocabulary: int
    length: int
    valid_share: float


def words_of(text: str) -> Iterator[str]:
    """The words of a text by the defaults of Keras' Tokenizer: lower case, split at blanks and filtered characters."""
    return filter(None, text.lower().translate(BLANKS).split(" "))


def make_labelled_texts(
    texts: Mapping[str, Iterable[Labelled]],
    encoding: Encoding,
    classes: Sequence[str] = (),
    test_share: float = 0.0,
) -> LabelledTexts:
    """Labelled texts from the texts of each split, which are read once and in this order.

    ST-RNN used Keras and gives only the 20,000 words and 100 tokens per text, so Keras' defaults are assumed. The
    vocabulary - 1 most frequent words of the training texts are numbered from 1 (ties by first appearance), and other
    words are left out. Of each text the last `length` words are kept; a shorter one is filled with 0 on the left.

    Without a "test" split, `test_share` of the training texts becomes one, and both are put in an order drawn by a
    fixed seed. Without a "valid" split, `valid_share` of the training texts, drawn likewise, is held out before words
    are counted, and the others keep their order. The paper mentions neither. classes: all of them in the order of
    their numbers (none: those of the training texts, sorted).
    Raises ConfigError for a split without texts, training texts without words, and fewer than two classes.
    """
    store = NumberedTexts()
    rows = {split: store.extend(stream) for split, stream in texts.items()}
    known = tuple(classes) or tuple(sorted(store.label_names(rows["train"])))
    if "test" not in rows:
        rows["train"], rows["test"] = _drawn_test(rows["train"], test_share)
    if "valid" not in rows:
        rows["train"], rows["valid"] = _held_out(rows["train"], encoding.valid_share)
    for split in SPLITS:
        if not len(rows[split]):
            raise ConfigError(f"The {split} split of the data set is empty.")
    if len(known) < 2:
        raise ConfigError("The train split of the data set has texts of one class: a classifier needs two.")
    numbers, words = ranks(store.tokens_of(rows["train"]), len(store.numbers), encoding.vocabulary - 1)
    if not words:
        raise ConfigError("The train split of the data set has no words.")
    store.digest.update(json.dumps([asdict(encoding), known]).encode())
    for split in SPLITS:
        store.digest.update(f"{split}{len(rows[split])}".encode() + rows[split].tobytes())
    splits = {split: store.encode(rows[split], numbers, encoding.length, known) for split in SPLITS}
    named = store.in_order_of(numbers)
    return LabelledTexts(splits, known, encoding.vocabulary, words, store.digest.hexdigest(), named)


def _drawn_test(rows: Integers, share: float) -> tuple[Integers, Integers]:
    order = rows[torch.randperm(len(rows), generator=generator("labelled_texts", "test")).numpy()]
    count = round(share * len(rows))
    return order[: len(rows) - count], order[len(rows) - count :]


def _held_out(rows: Integers, share: float) -> tuple[Integers, Integers]:
    order = torch.randperm(len(rows), generator=generator("labelled_texts", "valid")).numpy()
    count = max(1, round(share * len(rows)))
    return rows[np.sort(order[count:])], rows[np.sort(order[:count])]


class NumberedTexts:
    """Texts in compact arrays, their words numbered in order of first appearance.

    numbers: of the words. digest: SHA-256 of the labels and texts so far.
    """

    def __init__(self) -> None:
        self.numbers: defaultdict[str, int] = defaultdict()
        self.numbers.default_factory = self.numbers.__len__
        self.digest = hashlib.sha256()
        self._tokens, self._ends = array("i"), array("q", [0])
        self._labels, self._label_numbers = array("i"), dict[str, int]()

    def extend(self, stream: Iterable[Labelled]) -> Integers:
        """Add texts; returns their rows, int64 [texts]."""
        before = len(self._labels)
        with bar("encoding texts") as advance:
            for label, text in stream:
                self._add(label, text)
                if len(self._labels) % TEXTS_AT_ONCE == 0:
                    advance(TEXTS_AT_ONCE)
        return np.arange(before, len(self._labels))

    def _add(self, label: str, text: str) -> None:
        written = text.encode("utf-8", "surrogatepass")
        self.digest.update(f"{len(label)},{len(written)}:{label}".encode() + written)
        self._tokens.extend(map(self.numbers.__getitem__, words_of(text)))
        self._ends.append(len(self._tokens))
        self._labels.append(self._label_numbers.setdefault(label, len(self._label_numbers)))

    def label_names(self, rows: Integers) -> set[str]:
        """Names of the labels of these texts."""
        names, labels = list(self._label_numbers), np.frombuffer(self._labels, np.int32)
        return {names[number] for number in np.unique(labels[rows])}

    def in_order_of(self, numbers: npt.NDArray[np.int32]) -> tuple[str, ...]:
        """The words whose final number is not 0, in the order of these `numbers`."""
        names, used = list(self.numbers), np.flatnonzero(numbers)
        return tuple(names[place] for place in used[np.argsort(numbers[used])])

    def tokens_of(self, rows: Integers) -> npt.NDArray[np.int32]:
        """The words of these texts, one after another, int32 [words]."""
        return np.concatenate(list(self._texts(rows)))

    def _texts(self, rows: Integers) -> Iterator[npt.NDArray[np.int32]]:
        tokens, ends = np.frombuffer(self._tokens, np.int32), self._ends
        for row in rows.tolist():
            yield tokens[ends[row] : ends[row + 1]]

    def encode(
        self, rows: Integers, numbers: npt.NDArray[np.int32], length: int, classes: Sequence[str]
    ) -> LabelledSplit:
        """These texts with the final `numbers` of their words; words whose number is 0 are left out."""
        encoded = np.zeros((len(rows), length), np.int32)
        for row, text in zip(encoded, self._texts(rows), strict=True):
            ranked = numbers[text]
            kept = ranked[ranked > 0][-length:]
            row[length - len(kept) :] = kept
        final = np.array([classes.index(name) for name in self._label_numbers])
        labels = final[np.frombuffer(self._labels, np.int32)[rows]]
        return LabelledSplit(torch.from_numpy(encoded), torch.from_numpy(labels))


def ranks(tokens: npt.NDArray[np.int32], words: int, most: int) -> tuple[npt.NDArray[np.int32], int]:
    """The rank of each word by frequency among `tokens`, from 1, ties by first appearance; 0 for all but `most` words.

    Returns int32 [words], and how many words have a rank.
    """
    counts = torch.bincount(torch.from_numpy(tokens), minlength=words).numpy()
    # A stable sort of the counts is not enough: words are numbered by first appearance in all texts, held-out ones too.
    first = np.full(words, len(tokens), np.int32)
    np.minimum.at(first, tokens, np.arange(len(tokens), dtype=np.int32))
    used = min(most, int(np.count_nonzero(counts)))
    ranked = np.zeros(words, np.int32)
    ranked[np.lexsort((first, -counts))[:used]] = np.arange(1, used + 1)
    return ranked, used

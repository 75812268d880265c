"""Text for language models as token numbers."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.text_files import find_file, lines

SPLITS = ("train", "valid", "test")
END_OF_SENTENCE = "<eos>"
UNKNOWN = "<unk>"


class Vocabulary:
    """Words and their numbers, in order of first appearance."""

    def __init__(self, words: Iterable[str]) -> None:
        self.words = list(dict.fromkeys(words))
        self.index = {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, words: Iterable[str]) -> Tensor:
        """The words' numbers, int64 [words]; a word outside the vocabulary becomes `<unk>`.

        Raises ConfigError for such a word if the vocabulary has no `<unk>`.
        """
        if UNKNOWN not in self.index:
            words = list(words)
            for word in self.strange(words):
                raise ConfigError(f"{word} is not a word of the data set, which has no {UNKNOWN} either.")
        unknown = self.index.get(UNKNOWN)
        numbers = [self.index.get(word, unknown) for word in words]
        return torch.tensor(numbers, dtype=torch.int64)

    def strange(self, words: Iterable[str]) -> Iterator[str]:
        """Those of the words that are not in the vocabulary."""
        return (word for word in words if word not in self.index)


@dataclass(frozen=True)
class Corpus:
    """Token numbers of the three splits, int64 [tokens], or of a smaller type. sha256: of the words of all splits.

    from_train: whether the vocabulary is that of the training split, so that the others may have words outside it.
    blank_lines: whether a blank line counts as a sentence. characters: whether tokens are characters, not words.
    """

    vocabulary: Vocabulary
    splits: Mapping[str, Tensor]
    sha256: str
    from_train: bool = False
    blank_lines: bool = False
    characters: bool = False

    @property
    def unit(self) -> str:
        """What is counted."""
        return "characters" if self.characters else "tokens"

    @property
    def size_names(self) -> tuple[str, ...]:
        """What `sizes` are numbers of."""
        return ("different characters",) if self.characters else ("words",)

    @property
    def sizes(self) -> tuple[int, ...]:
        """What a model is built for: the number of words."""
        return (len(self.vocabulary),)

    @property
    def counts(self) -> dict[str, int]:
        """Number of tokens of each split."""
        return {split: tokens.numel() for split, tokens in self.splits.items()}

    def unknown(self, split: str) -> int | None:
        """How many tokens of a split are `<unk>`; None if the vocabulary is that of all splits."""
        return int((self.splits[split] == self.vocabulary.index[UNKNOWN]).sum()) if self.from_train else None

    def limited(self, train: int | None, other: int | None) -> "Corpus":
        """The first `train` tokens of the training split and `other` of each other one (None: all)."""
        cut = {name: tokens[: train if name == "train" else other] for name, tokens in self.splits.items()}
        return replace(self, splits=cut)


def make_corpus(texts: Mapping[str, list[str]], min_count: int | None = None, *, blank_lines: bool = False) -> Corpus:
    """A corpus from the words of each split.

    Without min_count the vocabulary is that of all splits, as in the published corpora. Otherwise it has `<unk>` and
    the words that occur at least min_count times in the training split, and every other word becomes `<unk>`. Raises
    ConfigError for a split without words, and for a training split that repeats a single word.
    """
    for name in SPLITS:
        if not texts[name]:
            raise ConfigError(f"The {name} split of the data set is empty.")
    if min_count is None:
        vocabulary = Vocabulary(word for name in SPLITS for word in texts[name])
    else:
        counts = Counter(texts["train"])
        vocabulary = Vocabulary([UNKNOWN, *(word for word, n in counts.items() if n >= min_count)])
    used = {word if word in vocabulary.index else UNKNOWN for word in texts["train"]}
    if len(used - {END_OF_SENTENCE}) < 2:
        rare = f" with dataset.min_count={min_count}: lower it, since" if (min_count or 1) > 1 else ":"
        raise ConfigError(
            f"The train split of the data set has a vocabulary of one word{rare} a language model needs two."
        )
    digest = hashlib.sha256()
    for name in SPLITS:
        digest.update("\n".join([name, *texts[name], ""]).encode())
    splits = {name: vocabulary.encode(texts[name]) for name in SPLITS}
    return Corpus(vocabulary, splits, digest.hexdigest(), min_count is not None, blank_lines)


def read_words(path: Path, name: str, *, blank_lines: bool = False) -> list[str]:
    """The words of the file of a split, see `words_in`. name: of the split, for errors."""
    return words_in(path, f"dataset.{name}={path}", blank_lines=blank_lines)


def words_in(path: Path, shown: str, *, blank_lines: bool = False) -> list[str]:
    """The words of a text file, compressed or not, with `<eos>` after each line that is not blank.

    shown: what errors call the file. blank_lines: whether there is an `<eos>` after a blank line too. Raises
    ConfigError if the file is missing, empty or no text, see `decoded`.
    """
    found = find_file(path)
    if not found:
        raise ConfigError(f"{shown} does not exist.")
    words = [word for line in lines(found, shown=shown) for word in sentence_words(line, blank_lines=blank_lines)]
    if all(word == END_OF_SENTENCE for word in words):
        raise ConfigError(f"{shown} is empty.")
    return words


def sentence_words(line: str, *, blank_lines: bool) -> Iterator[str]:
    """The words of a line with `<eos>` at its end; a carriage return ends a line as well, alone or before the feed."""
    for sentence in line.removesuffix("\n").removesuffix("\r").split("\r"):
        tokens = sentence.split()
        if tokens or blank_lines:
            yield from tokens
            yield END_OF_SENTENCE

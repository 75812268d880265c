"""Text for language models as token numbers."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from sparse_rnn.core.errors import ConfigError

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
        """The words' numbers, int64 [words]; a word outside the vocabulary becomes `<unk>`."""
        unknown = self.index.get(UNKNOWN)
        numbers = [self.index.get(word, unknown) for word in words]
        return torch.tensor(numbers, dtype=torch.int64)


@dataclass(frozen=True)
class Corpus:
    """Token numbers of the three splits, int64 [tokens]. sha256: of the words of all splits."""

    vocabulary: Vocabulary
    splits: Mapping[str, Tensor]
    sha256: str
    unit: ClassVar[str] = "tokens"

    @property
    def sizes(self) -> tuple[int, ...]:
        """What a model is built for: the number of words."""
        return (len(self.vocabulary),)

    @property
    def counts(self) -> dict[str, int]:
        """Number of tokens of each split."""
        return {split: tokens.numel() for split, tokens in self.splits.items()}

    def limited(self, train: int | None, other: int | None) -> "Corpus":
        """The first `train` tokens of the training split and `other` of each other one (None: all)."""
        cut = {name: tokens[: train if name == "train" else other] for name, tokens in self.splits.items()}
        return Corpus(self.vocabulary, cut, self.sha256)


def make_corpus(texts: Mapping[str, list[str]], min_count: int = 1) -> Corpus:
    """A corpus from the words of each split.

    With min_count = 1 the vocabulary is that of all splits, as in the published corpora. Otherwise it has the words
    that occur at least min_count times in the training split, and every other word becomes `<unk>`. Raises ConfigError
    for a split without words, and for a training split that repeats a single word.
    """
    for name in SPLITS:
        if not texts[name]:
            raise ConfigError(f"The {name} split of the data set is empty.")
    if min_count == 1:
        vocabulary = Vocabulary(word for name in SPLITS for word in texts[name])
    else:
        counts = Counter(texts["train"])
        vocabulary = Vocabulary([UNKNOWN, *(word for word, n in counts.items() if n >= min_count)])
    used = {word if word in vocabulary.index else UNKNOWN for word in texts["train"]}
    if len(used - {END_OF_SENTENCE}) < 2:
        raise ConfigError("The train split of the data set has a vocabulary of one word: a language model needs two.")
    digest = hashlib.sha256()
    for name in SPLITS:
        digest.update("\n".join([name, *texts[name], ""]).encode())
    return Corpus(vocabulary, {name: vocabulary.encode(texts[name]) for name in SPLITS}, digest.hexdigest())


def read_words(path: Path, name: str, *, blank_lines: bool = False) -> list[str]:
    """The words of a text file, with `<eos>` after each line that is not blank, or after every line with `blank_lines`.

    name: of the split, for errors. Raises ConfigError if the file is missing, empty or not UTF-8, or has NUL bytes.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"dataset.{name}={path} does not exist.") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"dataset.{name}={path} is not UTF-8 text (byte {error.start}); convert it first.") from None
    except OSError as error:
        raise ConfigError(f"dataset.{name}={path} cannot be read: {error.strerror}.") from None
    before, nul, _ = text.partition("\0")
    if nul:  # ASCII characters in UTF-16 have one each, and are UTF-8 as well
        number = before.count("\n") + 1
        raise ConfigError(f"dataset.{name}={path}, line {number}, has a NUL byte, as UTF-16 has: convert it to UTF-8.")
    if not text.strip():
        raise ConfigError(f"dataset.{name}={path} is empty.")
    words: list[str] = []
    for line in text.removesuffix("\n").split("\n"):
        tokens = line.split()
        if tokens or blank_lines:
            words += [*tokens, END_OF_SENTENCE]
    return words

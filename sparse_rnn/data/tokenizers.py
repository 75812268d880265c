"""Texts as a model's token numbers and back, where the model's data are not. Kept, as JSON, with runs and exports."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.reading import parse_json
from sparse_rnn.core.shapes import misfit
from sparse_rnn.core.wording import counted
from sparse_rnn.data.base import Data
from sparse_rnn.data.corpus import END_OF_SENTENCE, Corpus, Vocabulary, sentence_words
from sparse_rnn.data.labelled.texts import LabelledTexts, words_of

LONGEST_TEXT = 1_000_000  # words that a classifier may read


class Kept(TypedDict):
    """What is kept of a tokenizer. length, classes: of a classifier's; the others: of a language model's."""

    words: list[str]
    data_sha256: str
    blank_lines: NotRequired[bool]
    characters: NotRequired[bool]
    length: NotRequired[int]
    classes: NotRequired[list[str]]


@dataclass(frozen=True)
class WordTokenizer:
    """Of a language model: words are separated by white space, and the end of a line is a token too.

    data_sha256: of the text that the vocabulary is of. blank_lines: whether a blank line counts as a sentence.
    """

    vocabulary: Vocabulary
    data_sha256: str
    blank_lines: bool = False

    def encode(self, text: str) -> Tensor:
        """The numbers of the words and of the line feeds, int64 [T]; an unknown word is read as `<unk>`.

        Raises ConfigError for an unknown word if the vocabulary has no `<unk>`.
        """
        return self.vocabulary.encode(self.words(text))

    def decode(self, tokens: Tensor | Sequence[int]) -> str:
        """The text of token numbers [T]: words with spaces between them, one sentence per line."""
        return as_text(self.vocabulary.words[number] for number in _numbers(tokens))

    def prompt(self, text: str) -> Sequence[str]:
        """The words that a model reads before it writes: those of the text, or the end of a sentence if it has none."""
        return text.split() or [END_OF_SENTENCE]

    def continued(self, prompt: str, tokens: Sequence[int]) -> str:
        """A prompt with the token numbers after it, as `decode` writes them."""
        return as_text([*prompt.split(), *(self.vocabulary.words[number] for number in tokens)])

    def words(self, text: str) -> list[str]:
        """The words of a text, with `<eos>` for the end of a line, but not at the end of a text without a line feed."""
        *whole, begun = text.split("\n")
        found = [word for line in whole for word in sentence_words(line, blank_lines=self.blank_lines)]
        return found + begun.split()

    def no_text(self, sizes: Sequence[int]) -> Corpus:
        """Data for a model of these sizes, without any text."""
        return Corpus(self.vocabulary, {}, self.data_sha256, blank_lines=self.blank_lines)

    def kept(self) -> Kept:
        """What is kept of it."""
        return {"words": self.vocabulary.words, "data_sha256": self.data_sha256, "blank_lines": self.blank_lines}


@dataclass(frozen=True)
class CharacterTokenizer:
    """Of a language model whose tokens are characters: the bytes of UTF-8, each written as the character of its number.

    data_sha256: of the text that the vocabulary is of.
    """

    vocabulary: Vocabulary
    data_sha256: str

    def encode(self, text: str) -> Tensor:
        """The numbers of the text's bytes, int64 [T]. Raises ConfigError for a character that the data do not have."""
        return self.vocabulary.encode(self.known(text))

    def known(self, text: str) -> str:
        """The bytes of a text as characters; raises ConfigError for one that the data do not have."""
        for character in dict.fromkeys(text):
            if any(byte not in self.vocabulary.index for byte in _bytes(character)):
                raise ConfigError(f"{character!r} is not one of the {len(self.vocabulary)} characters of the data set.")
        return _bytes(text)

    def decode(self, tokens: Tensor | Sequence[int]) -> str:
        """The text of token numbers [T]; what is no UTF-8 is replaced."""
        read = "".join(self.vocabulary.words[number] for number in _numbers(tokens))
        return read.encode("latin-1").decode("utf-8", "replace")

    def prompt(self, text: str) -> Sequence[str]:
        """The characters that a model reads before it writes: those of the text, or a line feed, or else a space."""
        return self.known(text) or next(
            blank for blank in ("\n", " ", self.vocabulary.words[0]) if blank in self.vocabulary.index
        )

    def continued(self, prompt: str, tokens: Sequence[int]) -> str:
        """A prompt with the token numbers after it, as `decode` writes them."""
        return prompt + self.decode(tokens)

    def no_text(self, sizes: Sequence[int]) -> Corpus:
        """Data for a model of these sizes, without any text."""
        return Corpus(self.vocabulary, {}, self.data_sha256, characters=True)

    def kept(self) -> Kept:
        """What is kept of it."""
        return {"words": self.vocabulary.words, "data_sha256": self.data_sha256, "characters": True}


def _bytes(text: str) -> str:
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


@dataclass(frozen=True)
class TextTokenizer:
    """Of a classifier: lower-case words, of which the last `length` known ones count; classes by name.

    words: in the order of their numbers, from 1. data_sha256: of the texts that they are of.
    """

    words: tuple[str, ...]
    length: int
    classes: tuple[str, ...]
    data_sha256: str

    @cached_property
    def index(self) -> dict[str, int]:
        """The number of each word."""
        return {word: number for number, word in enumerate(self.words, 1)}

    def encode(self, text: str) -> Tensor:
        """The numbers of the last known words, int64 [length], filled with 0 on the left; others are left out."""
        numbers = [self.index[word] for word in words_of(text) if word in self.index][-self.length :]
        return torch.tensor([0] * (self.length - len(numbers)) + numbers, dtype=torch.int64)

    def decode(self, tokens: Tensor | Sequence[int]) -> str:
        """The words of token numbers [T], with spaces between them."""
        return " ".join(self.words[number - 1] for number in _numbers(tokens) if number)

    def no_text(self, sizes: Sequence[int]) -> LabelledTexts:
        """Data for a model of these sizes, without any text."""
        return LabelledTexts({}, self.classes, sizes[0], len(self.words), self.data_sha256, self.words)

    def kept(self) -> Kept:
        """What is kept of it."""
        own: Kept = {"words": list(self.words), "data_sha256": self.data_sha256}
        return {**own, "length": self.length, "classes": list(self.classes)}


WritingTokenizer = WordTokenizer | CharacterTokenizer
Tokenizer = WritingTokenizer | TextTokenizer


def _numbers(tokens: Tensor | Sequence[int]) -> Sequence[int]:
    numbers: Sequence[int] = tokens.flatten().tolist() if isinstance(tokens, Tensor) else tokens
    return numbers


def as_text(words: Iterable[str]) -> str:
    """Words separated by spaces, one sentence per line."""
    lines: list[list[str]] = [[]]
    for word in words:
        if word == END_OF_SENTENCE:
            lines.append([])
        else:
            lines[-1].append(word)
    return "\n".join(map(" ".join, lines))


def tokenizer_of(data: Data) -> Tokenizer | None:
    """The tokenizer of data in memory; None for data of another kind than `make_corpus` and `encode` make."""
    if isinstance(data, Corpus) and data.characters:
        return CharacterTokenizer(data.vocabulary, data.sha256)
    if isinstance(data, Corpus):
        return WordTokenizer(data.vocabulary, data.sha256, data.blank_lines)
    if isinstance(data, LabelledTexts):
        return TextTokenizer(data.known, data.splits["train"].tokens.shape[1], data.classes, data.sha256)
    return None


def to_json(tokenizer: Tokenizer) -> str:
    """A tokenizer as JSON, in ASCII: half a character, as JSON lines may have, could not be written otherwise."""
    return json.dumps(tokenizer.kept(), separators=(",", ":"))


def from_json(text: bytes, sizes: Sequence[int]) -> Tokenizer:
    """The tokenizer that `to_json` wrote; raises ValueError if it is none of a model of these sizes."""
    kept: Any = parse_json(text)
    if wrong := next(_wrong(kept, sizes), ""):
        raise ValueError(wrong)
    if kept.get("characters"):
        return CharacterTokenizer(Vocabulary(kept["words"]), kept["data_sha256"])
    if "classes" not in kept:
        return WordTokenizer(Vocabulary(kept["words"]), kept["data_sha256"], kept.get("blank_lines", False))
    return TextTokenizer(tuple(kept["words"]), kept["length"], tuple(kept["classes"]), kept["data_sha256"])


def _wrong(kept: Mapping[str, Any], sizes: Sequence[int]) -> Iterator[str]:
    """What is wrong with a kept tokenizer for a model of these sizes; the first is to be told."""
    if shape := misfit(kept, Kept):
        yield shape
        return
    words, classes = kept["words"], kept.get("classes")
    if len(set(words)) < len(words):
        yield "its vocabulary has a word twice"
    if kept.get("characters") and not all(len(word) == 1 and word < "\u0100" for word in words):
        yield "its characters are not bytes"
    elif classes is None:
        if [len(words)] != list(sizes):
            yield f"its vocabulary has {counted(len(words), 'word')}, and its model another number"
    elif len(sizes) != 2 or len(words) >= sizes[0] or len(classes) != sizes[1]:
        yield "its vocabulary or its classes are not those of its model"
    elif not 0 < kept.get("length", 0) <= LONGEST_TEXT:
        yield "it does not say how many words of a text count"

"""A user's file as data for a trained model, numbered by the vocabulary of the model's run."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sparse_rnn.config.schema import Run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.wording import counted
from sparse_rnn.data.base import Data
from sparse_rnn.data.corpus import END_OF_SENTENCE, UNKNOWN, Corpus, words_in
from sparse_rnn.data.labelled.dataset import LabelledDataset
from sparse_rnn.data.labelled.own import LabelledText
from sparse_rnn.data.labelled.readers import Example, examples_in, labelled
from sparse_rnn.data.labelled.texts import LabelledSplit, LabelledTexts, words_of
from sparse_rnn.data.text_files import find_file, lines
from sparse_rnn.data.tokenizers import CharacterTokenizer, TextTokenizer, Tokenizer, WordTokenizer

SPLIT = "test"  # the one that the file takes the place of
READING = ("auto", "label", "text")  # of labelled files, unless the run's own were read in another way


@dataclass(frozen=True)
class OwnFile:
    """The file as the only split of `data`; words: how many it has, and how many of them the model does not know.

    unknown: None where tokens are characters, all of which the model knows.
    """

    data: Data
    words: int = 0
    unknown: int | None = None


def read_own_file(name: str, tokenizer: Tokenizer, run: Run, sizes: list[int]) -> OwnFile:
    """A text, or for a classifier labelled texts whose labels are its classes, as data; raises ConfigError."""
    path = find_file(Path(name))
    if not path:
        raise ConfigError(f"data={name} does not exist.")
    if isinstance(tokenizer, CharacterTokenizer):
        tokens = tokenizer.encode("".join(lines(path, shown=f"data={name}")))
        if not tokens.numel():
            raise ConfigError(f"data={name} is empty.")
        return OwnFile(Corpus(tokenizer.vocabulary, {SPLIT: tokens}, "", characters=True))
    if isinstance(tokenizer, WordTokenizer):
        return _text(path, f"data={name}", tokenizer)
    return _labelled(path, f"data={name}", tokenizer, run, sizes)


def fitting_batch(name: str, own: OwnFile, batch: int, *, asked: bool) -> int:
    """How many sequences of the file are read side by side: `batch`, or fewer if nobody asked for so many.

    A text needs two tokens for each, else ConfigError is raised; labelled texts are read as many at a time as there
    are.
    """
    tokens = own.data.counts[SPLIT]
    if isinstance(own.data, Corpus) and tokens < 2 * batch:
        if asked:
            raise ConfigError(f"data={name} has {counted(tokens, 'token')}: too few for batch={batch}.")
        return tokens // 2
    return batch


def _text(path: Path, shown: str, tokenizer: WordTokenizer) -> OwnFile:
    words, vocabulary = words_in(path, shown, blank_lines=tokenizer.blank_lines), tokenizer.vocabulary
    strange = list(vocabulary.strange(words))
    if strange and UNKNOWN not in vocabulary.index:
        raise ConfigError(
            f"{shown} has {counted(len(strange), 'word')} that the model does not know (the first is {strange[0]}), "
            f"and its vocabulary has no {UNKNOWN}."
        )
    data = Corpus(vocabulary, {SPLIT: vocabulary.encode(words)}, "", blank_lines=tokenizer.blank_lines)
    return OwnFile(data, sum(word != END_OF_SENTENCE for word in words), len(strange))


def _labelled(path: Path, shown: str, tokenizer: TextTokenizer, run: Run, sizes: list[int]) -> OwnFile:
    tokens: list[Tensor] = []
    labels: list[int] = []
    words = unknown = 0
    for example in labelled(_named(path, run), path, tokenizer.classes):
        found = list(words_of(example.text))
        words += len(found)
        unknown += sum(word not in tokenizer.index for word in found)
        tokens.append(tokenizer.encode(example.text).int())
        labels.append(tokenizer.classes.index(example.label))
    if not tokens:
        raise ConfigError(f"{shown} has no texts.")
    split = LabelledSplit(torch.stack(tokens), torch.tensor(labels))
    empty = tokenizer.no_text(sizes)
    return OwnFile(LabelledTexts({SPLIT: split}, empty.classes, empty.vocabulary, empty.words, ""), words, unknown)


def _named(path: Path, run: Run) -> Iterator[Example]:
    """The examples of the file, with the names of the classes for the labels of a published data set."""
    dataset = run.dataset
    names: Mapping[str, str] = dataset.labels if isinstance(dataset, LabelledDataset) else {}
    for example in examples_in(path, *(dataset.reading if isinstance(dataset, LabelledText) else READING)):
        yield example._replace(label=names.get(example.label, example.label))

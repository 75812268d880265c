"""WikiText-103, whose tokens are kept in a file that is mapped into memory: it has too many to hold them as words."""

import hashlib
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypedDict

import numpy as np
import numpy.typing as npt
import torch
from filelock import FileLock

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.files import atomic, write_json
from sparse_rnn.core.progress import bar
from sparse_rnn.core.reading import read_cache
from sparse_rnn.core.registry import register
from sparse_rnn.core.shapes import misfit
from sparse_rnn.data import download
from sparse_rnn.data.content import data_root
from sparse_rnn.data.corpus import SPLITS, Corpus, Vocabulary, sentence_words
from sparse_rnn.data.text_files import decoded, reading

VERSION = 1  # of the file of tokens
AT_ONCE = 1 << 20  # tokens, while they are read and numbered
TOKEN = np.dtype("<i4")
TOKENS = 103_690_236  # of all splits, which the bar shows

WIKITEXT103_MIRRORS = (
    "https://s3.amazonaws.com/research.metamind.io/wikitext",
    "https://wikitext.smerity.com",
)
WIKITEXT103_ARCHIVE = "wikitext-103-v1.zip"
# By the checksum that public code compares it with, for example huggingface/datasets and CorpusLoaders.jl.
WIKITEXT103_FILES = {
    WIKITEXT103_ARCHIVE: (WIKITEXT103_ARCHIVE, "242ba0f20b329cfdf1ccc61e9e9e5b59becf189db7f7a81cd2a0e2fc31539590")
}


class Encoded(TypedDict):
    """What is kept beside the file of tokens. counts: tokens by split, in its order. sha256: as of any corpus."""

    words: list[str]
    counts: dict[str, int]
    sha256: str
    tokens_sha256: str


@register("dataset", "wikitext103")
@dataclass
class WikiText103:
    """WikiText-103 (Merity et al. 2017): 103,227,021 / 217,646 / 245,569 tokens, 267,735 words; blank lines count.

    Words are numbered by their frequency in the training split, as model.decoder=adaptive needs it.
    """

    task: ClassVar[str] = "language_modelling"
    by_frequency: ClassVar[bool] = True

    name: str = "wikitext103"

    def load(self) -> Corpus:
        """The three splits, int32, mapped from a file that the first call writes from the downloaded archive."""
        archive = self.fetch()[WIKITEXT103_ARCHIVE]
        key = f"{VERSION} {WIKITEXT103_FILES[WIKITEXT103_ARCHIVE][1]}"
        tokens = archive.parent / ".encoded" / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.tokens"
        try:
            tokens.parent.mkdir(exist_ok=True)
            with FileLock(tokens.with_suffix(".lock")):
                described = kept(tokens) or encode(archive, tokens)
        except (OSError, NotImplementedError) as error:  # NotImplementedError: a file system without locks
            reason = getattr(error, "strerror", None) or error
            raise ConfigError(f"The tokens of {self.name} cannot be written to {tokens.parent} ({reason}).") from None
        return mapped(tokens, described)

    def fetch(self) -> dict[str, Path]:
        """The path of the archive by name; it is downloaded if it is missing."""
        remote = download.mirrored(WIKITEXT103_MIRRORS, WIKITEXT103_FILES)
        return download.fetch(data_root() / self.name, remote, dataset=self.name)

    def sizes(self) -> tuple[int, ...]:
        """The number of words, as published."""
        return (267_735,)

    def train_tokens(self, limit: int | None) -> int:
        """The number of training tokens, as published, or `limit`."""
        return 103_227_021 if limit is None else min(103_227_021, limit)


def kept(tokens: Path) -> Encoded | None:
    """What is kept beside a file of tokens; None if either is missing or damaged."""
    found: Any = read_cache(tokens.with_suffix(".json"))
    if misfit(found, Encoded) or not tokens.is_file() or download.sha256_of(tokens) != found["tokens_sha256"]:
        return None
    described: Encoded = found
    return described


def mapped(tokens: Path, described: Encoded) -> Corpus:
    """The corpus whose tokens are in a file, of which memory holds what is being read."""
    numbers = torch.from_numpy(np.memmap(tokens, TOKEN, mode="c"))
    splits = dict(zip(described["counts"], torch.split(numbers, list(described["counts"].values())), strict=True))
    return Corpus(Vocabulary(described["words"]), splits, described["sha256"], blank_lines=True)


def encode(archive: Path, tokens: Path) -> Encoded:
    """Write the token numbers of all splits into a file, and what belongs to them beside it. Raises ConfigError.

    Words get numbers as they appear; once all are counted, the file is gone through again and gets the final numbers.
    """
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    counts: dict[str, int] = {}
    frequency = np.zeros(0, np.int64)  # in the training split, which comes first
    digest = hashlib.sha256()
    with atomic(tokens) as draft:
        with draft.open("rb+") as stream, bar("numbering words", TOKENS) as advance:
            for split in SPLITS:
                digest.update(f"{split}\n".encode())
                counts[split] = 0
                for words in _chunks(archive, split):
                    digest.update("".join(f"{word}\n" for word in words).encode())
                    chunk = np.fromiter(map(numbers.__getitem__, words), TOKEN, len(words))
                    stream.write(chunk.tobytes())
                    counts[split] += len(words)
                    advance(len(words))
                    if split == "train":
                        frequency = _sum(frequency, np.bincount(chunk, minlength=len(numbers)))
        order = np.argsort(-_sum(frequency, np.zeros(len(numbers), np.int64)), kind="stable")
        ranks = np.empty(len(numbers), TOKEN)
        ranks[order] = np.arange(len(numbers), dtype=TOKEN)
        written = np.memmap(draft, TOKEN, mode="r+")
        for start in range(0, len(written), AT_ONCE):
            written[start : start + AT_ONCE] = ranks[written[start : start + AT_ONCE]]
        written.flush()
        tokens_sha256 = download.sha256_of(draft)
    known = list(numbers)
    words = [known[number] for number in order]
    described = Encoded(words=words, counts=counts, sha256=digest.hexdigest(), tokens_sha256=tokens_sha256)
    write_json(tokens.with_suffix(".json"), dict(described))
    return described


def _chunks(archive: Path, split: str) -> Iterator[list[str]]:
    """The words of a split, about AT_ONCE at a time, with `<eos>` after each line. Raises ConfigError."""
    member = f"wikitext-103/wiki.{split}.tokens"
    words: list[str] = []
    try:
        with reading(archive), zipfile.ZipFile(archive) as packed, packed.open(member) as stream:
            for line in decoded(stream, f"{archive}:{member}"):
                words.extend(sentence_words(line, blank_lines=True))
                if len(words) >= AT_ONCE:
                    yield words
                    words = []
    except (KeyError, zipfile.BadZipFile) as error:
        raise ConfigError(f"{archive} has no {member} ({error}): remove it and get it again.") from None
    if words:
        yield words


def _sum(one: npt.NDArray[np.int64], other: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The sum of two arrays, the shorter of which is filled with zeros."""
    total = np.zeros(max(len(one), len(other)), np.int64)
    total[: len(one)] += one
    total[: len(other)] += other
    return total

"""What all labelled data sets have in common: settings, caching, sizes."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from sparse_rnn.core.bounds import check_whole
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data import download
from sparse_rnn.data.content import data_root
from sparse_rnn.data.labelled.encoded_cache import cached, file_stats
from sparse_rnn.data.labelled.readers import Example
from sparse_rnn.data.labelled.texts import Encoding, Labelled, LabelledTexts, make_labelled_texts
from sparse_rnn.data.text_files import find_file

EMBEDDED, OWN = "pydoc_topics", "labelled_text"


@dataclass
class LabelledDataset:
    """The base of every labelled data set; a subclass says where its examples come from.

    vocabulary: rows of the embedding, including padding. length: tokens per text. valid_share: share of the training
    texts held out for validation, which the paper does not mention. labels: class names by the labels in the files.
    test_share: share of the texts drawn for testing where the files have no such split. published: number of texts that
    training, validation and, with test_share, test texts are drawn from.
    """

    task: ClassVar[str] = "text_classification"
    labels: ClassVar[Mapping[str, str]] = {}
    test_share: ClassVar[float] = 0.0
    published: ClassVar[int | None] = None

    name: str = ""
    vocabulary: int = 20_000
    length: int = 100
    valid_share: float = 0.1

    def __post_init__(self) -> None:
        for key, least, most in (("vocabulary", 2, 10_000_000), ("length", 1, 1_000_000)):
            check_whole(f"dataset.{key}", getattr(self, key), least, most)
        if not 0 < self.valid_share < 1:
            raise ConfigError(f"dataset.valid_share={self.valid_share} must be between 0 and 1, both excluded.")

    @property
    def steps(self) -> int:
        """Tokens of a text."""
        return self.length

    @property
    def folder(self) -> Path:
        """The folder of its files and of its cache."""
        return data_root() / self.name

    def sources(self) -> list[Path]:
        """The files, or the folders of files, that it is read from; raises ConfigError if they cannot be had."""
        raise NotImplementedError

    def content_sources(self) -> list[Path]:
        """The files that are here and that no published SHA-256 checks, or their folders; of those downloaded, none."""
        if hasattr(self, "fetch"):
            return []
        try:
            return self.sources()
        except (ConfigError, NotImplementedError):  # not here, or made of no files
            return []

    def examples(self) -> Mapping[str, Iterable[Example]]:
        """The examples in the files, by split: "train" alone where the files have no splits."""
        raise NotImplementedError

    def load(self) -> LabelledTexts:
        """The encoded texts, from the cache unless the settings or the files have changed."""
        return cached(self.folder / ".encoded", [self.settings(), file_stats(self.sources())], self.encode)

    def settings(self) -> dict[str, Any]:
        """What decides, beside the files, how texts are encoded."""
        return asdict(self)

    def encode(self) -> LabelledTexts:
        """The encoded texts, read from the files."""
        texts = {split: self._classes(stream) for split, stream in self.examples().items()}
        encoding = Encoding(self.vocabulary, self.length, self.valid_share)
        return make_labelled_texts(texts, encoding, tuple(self.labels.values()), self.test_share)

    def _classes(self, examples: Iterable[Example]) -> Iterator[Labelled]:
        for example in examples:
            yield self.labels.get(example.label, example.label), example.text

    def sizes(self) -> tuple[int, int]:
        """Rows of the embedding, number of classes."""
        return self.vocabulary, len(self.labels)

    def train_tokens(self, limit: int | None) -> int | None:
        """Tokens with padding of the texts that `published` leaves for training, or about `limit`; None: unknown."""
        if self.published is None:
            return None
        texts = self.published - round(self.test_share * self.published)
        texts -= max(1, round(self.valid_share * texts))
        return self.length * (texts if limit is None else min(texts, max(1, limit // self.length)))

    def supplied(self, names: Sequence[str], what: str) -> Path:
        """The first of these files, compressed or not, that is there; raises ConfigError that says where to get it."""
        for name in names:
            if path := find_file(self.folder / name):
                return path
        raise ConfigError(
            f"dataset={self.name} needs {' or '.join(names)} in {self.folder}: get {what}, or use dataset={EMBEDDED}, "
            "which needs nothing."
        )

    def downloaded(self, mirrors: Sequence[str], files: Mapping[str, tuple[str, str]]) -> dict[str, Path]:
        """Paths of published files by name, downloaded if need be and checked; `files` as for `download.mirrored`."""
        remote = download.mirrored(mirrors, files)
        return download.fetch(self.folder, remote, dataset=self.name, embedded=EMBEDDED, own=OWN)

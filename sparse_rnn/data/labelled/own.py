"""Labelled data sets that nobody publishes: the user's own files, and text that comes with Python."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from pydoc_data import topics as reference
from typing import Any, ClassVar

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import register
from sparse_rnn.data.corpus import SPLITS
from sparse_rnn.data.labelled.dataset import LabelledDataset
from sparse_rnn.data.labelled.readers import FORMATS, Example, examples_in, format_of, labelled
from sparse_rnn.data.labelled.texts import LabelledTexts
from sparse_rnn.data.labels import check_label
from sparse_rnn.data.text_files import find_file

WORDS = 8  # at least, in a paragraph of PyDocTopics


@register("dataset", "labelled_text")
@dataclass
class LabelledText(LabelledDataset):
    """The user's own files, compressed or not: a label and a text per row.

    The classes are the labels of the training file, sorted.
    train, test: the files. valid: the file for validation; without it, valid_share of the training file is held out.
    label: what ids and tables call these texts. format: csv or tsv, with or without a header (`label` in its first
    column); jsonl, an object per line; or auto, the one that a file's suffix says. label_key, text_key: the keys of an
    object that hold the label and the text.
    """

    name: str = "labelled_text"
    train: str = ""
    test: str = ""
    valid: str = ""
    label: str = ""
    format: str = "auto"
    label_key: str = "label"
    text_key: str = "text"

    def __post_init__(self) -> None:
        missing = [split for split in ("train", "test") if not getattr(self, split)]
        if missing:
            raise ConfigError(f"dataset={self.name} needs {' and '.join(f'dataset.{m}=FILE' for m in missing)}.")
        check_label(self.label)
        if self.format not in FORMATS:
            raise ConfigError(f"dataset.format={self.format} must be one of {', '.join(FORMATS)}.")
        given = [getattr(self, split) for split in SPLITS if getattr(self, split)]
        for key, usual in (("label_key", "label"), ("text_key", "text")):
            if getattr(self, key) != usual and "jsonl" not in {format_of(name, self.format) for name in given}:
                raise ConfigError(f"dataset.{key} means nothing without a file of JSON lines: leave it out.")
        super().__post_init__()

    def settings(self) -> dict[str, Any]:
        """All but the label, by which nothing is read in another way."""
        return {**asdict(self), "label": ""}

    def sources(self) -> list[Path]:
        """The files given, compressed or not."""
        return list(self._files().values())

    def _files(self) -> dict[str, Path]:
        files = {}
        for split in SPLITS:
            if given := getattr(self, split):
                path = find_file(Path(given))
                if not path:
                    raise ConfigError(f"dataset.{split}={given} does not exist.")
                files[split] = path
        return files

    def examples(self) -> Mapping[str, Iterable[Example]]:
        """The rows of each file; the training file is read first and decides which labels the others may have."""
        seen: set[str] = set()
        files = self._files()
        found = {split: examples_in(path, *self.reading) for split, path in files.items()}
        others = {split: labelled(stream, files[split], seen) for split, stream in found.items()}
        headed = format_of(files["train"].name, self.format) != "jsonl"
        return others | {"train": _collecting(found["train"], files["train"], seen, headed=headed)}

    @property
    def reading(self) -> tuple[str, str, str]:
        """How a file is read: its format and the keys of its JSON lines."""
        return self.format, self.label_key, self.text_key

    def sizes(self) -> tuple[int, int]:
        """Rows of the embedding, and the number of classes, counted in the files."""
        return self.load().sizes

    def train_tokens(self, limit: int | None) -> int:
        """The number of training tokens, counted in the files, or about `limit`."""
        return self.load().limited(limit, None).splits["train"].tokens.numel()


def _collecting(examples: Iterable[Example], source: object, labels: set[str], *, headed: bool) -> Iterator[Example]:
    """The same examples, their labels put into `labels`. headed: whether the first row may be a header."""
    first, counts = "", Counter[str]()
    for example in examples:
        first = first or example.label
        labels.add(example.label)
        counts[example.label] += 1
        yield example
    if headed and counts[first] == 1 < max(counts.values(), default=0):
        raise ConfigError(
            f"{source} has the label {first!r} in its first row alone: let a header begin with `label`, or have none."
        )
    if len(labels) < 2:
        raise ConfigError(
            f"{source} has {'texts of one label' if labels else 'no texts'}: a classifier needs two labels."
        )


@register("dataset", "pydoc_topics")
@dataclass
class PyDocTopics(LabelledDataset):
    """From which topic of the running CPython's reference text (`pydoc_data.topics`) a paragraph is: needs no files.

    Paragraphs of at least 8 words that occur only once. A fixed seed draws their order and a fifth of them for testing.
    The text differs between versions of CPython. topics: how many classes, those that have most text of this kind.
    """

    test_share: ClassVar[float] = 0.2

    name: str = "pydoc_topics"
    vocabulary: int = 2_000
    length: int = 50
    topics: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.topics < 2:
            raise ConfigError(f"dataset.topics={self.topics} must be at least 2.")

    def content_sources(self) -> list[Path]:
        """The module of the text."""
        return [Path(reference.__file__)]

    def load(self) -> LabelledTexts:
        """The encoded paragraphs, without the cache: they are few."""
        return self.encode()

    def examples(self) -> Mapping[str, Iterable[Example]]:
        """All paragraphs, topic by topic."""
        texts = reference.topics.items()
        split = {name: [" ".join(p.split()) for p in re.split(r"\n\s*\n", text)] for name, text in texts}
        uses = Counter(paragraph for found in split.values() for paragraph in found)
        own = {name: [p for p in found if uses[p] == 1 and p.count(" ") >= WORDS - 1] for name, found in split.items()}
        chosen = sorted(own, key=lambda name: (-sum(map(len, own[name])), name))[: self.topics]
        return {"train": [Example(1, name, paragraph) for name in sorted(chosen) for paragraph in own[name]]}

    def sizes(self) -> tuple[int, int]:
        """Rows of the embedding, number of classes."""
        return self.vocabulary, self.load().sizes[1]

    def train_tokens(self, limit: int | None) -> int:
        """The number of training tokens, counted in the text, or about `limit`."""
        return self.load().limited(limit, None).splits["train"].tokens.numel()

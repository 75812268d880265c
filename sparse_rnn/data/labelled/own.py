"""Labelled data sets that need no publisher: the user's own files, and text that comes with Python."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import register
from sparse_rnn.data.corpus import SPLITS
from sparse_rnn.data.labelled.dataset import LabelledDataset
from sparse_rnn.data.labelled.readers import Example, csv_examples, find_file, labelled, lines
from sparse_rnn.data.labelled.texts import LabelledTexts

WORDS = 8  # that a paragraph of PyDocTopics has at least


@register("dataset", "labelled_text")
@dataclass
class LabelledText(LabelledDataset):
    """The user's own CSV files: a label and a text a row, after a header or not (`label` in its first column).

    The classes are the labels of the training file, sorted. Without `valid`, valid_share of it is held out.
    """

    name: str = "labelled_text"
    train: str = ""
    test: str = ""
    valid: str = ""

    def __post_init__(self) -> None:
        missing = [split for split in ("train", "test") if not getattr(self, split)]
        if missing:
            raise ConfigError(f"dataset={self.name} needs {' and '.join(f'dataset.{m}=FILE' for m in missing)}.")
        super().__post_init__()

    def sources(self) -> list[Path]:
        """The user's files."""
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
        """Of each file; the training file's, which are read first, decide which labels the others may have."""
        seen: set[str] = set()
        found = {split: csv_examples(lines(path), path, 2, "label") for split, path in self._files().items()}
        others = {split: labelled(stream, self._files()[split], seen) for split, stream in found.items()}
        return others | {"train": _collecting(found["train"], self._files()["train"], seen)}

    def sizes(self) -> tuple[int, int]:
        """The number of classes is known only from the files."""
        return self.load().sizes

    def train_tokens(self, limit: int | None) -> int:
        """Known only from the files."""
        return self.load().limited(limit, None).splits["train"].tokens.numel()


def _collecting(examples: Iterable[Example], source: object, labels: set[str]) -> Iterator[Example]:
    first, counts = "", Counter[str]()
    for example in examples:
        first = first or example.label
        labels.add(example.label)
        counts[example.label] += 1
        yield example
    if counts[first] == 1 < max(counts.values(), default=0):
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
    """Which topic a paragraph of the running CPython's reference text (`pydoc_data.topics`) is from: needs no files.

    Of the paragraphs of at least 8 words that stand nowhere else, those of the 8 topics that have the most; put in an
    order drawn by a fixed seed, a fifth for testing. They differ between versions of CPython.
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

    def load(self) -> LabelledTexts:
        """The paragraphs, encoded; too few to keep on disk."""
        return self.encode()

    def examples(self) -> Mapping[str, Iterable[Example]]:
        """All paragraphs."""
        from pydoc_data.topics import topics

        split = {name: [" ".join(p.split()) for p in re.split(r"\n\s*\n", text)] for name, text in topics.items()}
        uses = Counter(paragraph for found in split.values() for paragraph in found)
        own = {name: [p for p in found if uses[p] == 1 and p.count(" ") >= WORDS - 1] for name, found in split.items()}
        chosen = sorted(own, key=lambda name: (-sum(map(len, own[name])), name))[: self.topics]
        return {"train": [Example(1, name, paragraph) for name in sorted(chosen) for paragraph in own[name]]}

    def sizes(self) -> tuple[int, int]:
        """Rows of the embedding, number of topics."""
        return self.vocabulary, self.load().sizes[1]

    def train_tokens(self, limit: int | None) -> int:
        """Those of the running CPython."""
        return self.load().limited(limit, None).splits["train"].tokens.numel()

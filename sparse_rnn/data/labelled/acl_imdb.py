"""The Large Movie Review Dataset (Maas et al. 2011): one file per review, in a folder or in the published archive."""

import re
import tarfile
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.wording import counted
from sparse_rnn.data.labelled.readers import Example
from sparse_rnn.data.text_files import decoded, reading

REVIEWS = 12_500
LABELS = ("neg", "pos")
SPLITS = ("train", "test")
NAME = re.compile(r"(\d+)_\d+\.txt")
MEMBER = re.compile(rf"(?:\./)?aclImdb/(train|test)/(neg|pos)/({NAME.pattern})")


def folder_examples(folder: Path, split: str) -> Iterator[Example]:
    """The reviews of a split, ordered by their numbers: the classes alternate, so that any first part has both.

    Raises ConfigError unless there are 12,500 reviews of each class.
    """
    names = {label: review_names(folder / split / label) for label in LABELS}
    for label in LABELS:
        _require_all(folder / split / label, len(names[label]))
    reviews = [(label, name) for label in LABELS for name in names[label]]
    for label, name in _by_number(reviews):
        path = f"{folder}/{split}/{label}/{name}"
        with reading(path), open(path, "rb") as stream:
            yield Example(1, label, "".join(decoded(stream, path)))


def archive_examples(archive: Path) -> dict[str, Iterator[Example]]:
    """The same by split from the archive, read once; its texts are kept in memory (65 MB) to put them into order."""
    found: dict[str, dict[tuple[str, str], bytes]] = {split: {} for split in SPLITS}
    with reading(archive), tarfile.open(archive, "r|gz") as stream:
        for entry in stream:
            if (match := MEMBER.fullmatch(entry.name)) and (content := stream.extractfile(entry)):
                split, label, name = match.group(1, 2, 3)
                found[split][label, name] = content.read()
    for split, label in product(SPLITS, LABELS):
        _require_all(f"{archive}:aclImdb/{split}/{label}", sum(key[0] == label for key in found[split]))
    return {split: _archived(archive, split, texts) for split, texts in found.items()}


def _archived(archive: Path, split: str, texts: dict[tuple[str, str], bytes]) -> Iterator[Example]:
    for label, name in _by_number(list(texts)):
        content = texts[label, name].splitlines(keepends=True)
        yield Example(1, label, "".join(decoded(content, f"{archive}:aclImdb/{split}/{label}/{name}")))


def review_names(folder: Path) -> list[str]:
    """Names of the files in a folder whose names are those of reviews, <number>_<rating>.txt."""
    with reading(folder):
        return [path.name for path in folder.iterdir() if NAME.fullmatch(path.name)]


def _by_number(reviews: list[tuple[str, str]]) -> list[tuple[str, str]]:
    return sorted(reviews, key=lambda review: (int(review[1].partition("_")[0]), review))


def _require_all(where: object, found: int) -> None:
    if found != REVIEWS:
        raise ConfigError(
            f"{where} has {counted(found, 'review')} instead of the published {REVIEWS:,}: remove the folder or the "
            "archive and get it again, or use dataset=labelled_text for texts of your own."
        )

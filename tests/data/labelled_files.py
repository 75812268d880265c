"""Files of labelled texts as the tests write them, and the classes of the texts that are read from them."""

import csv
import io
from pathlib import Path

import torch

from sparse_rnn.data.corpus import SPLITS
from sparse_rnn.data.labelled.texts import LabelledTexts


def put(path: Path, content: str | bytes) -> Path:
    """Write a file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(*rows: tuple[object, ...]) -> str:
    """Rows as comma-separated values."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def label_counts(texts: LabelledTexts, *splits: str) -> list[int]:
    """Number of texts of each class in the given splits, or in all."""
    labels = torch.cat([texts.splits[split].labels for split in splits or SPLITS])
    counts: list[int] = torch.bincount(labels, minlength=len(texts.classes)).tolist()
    return counts

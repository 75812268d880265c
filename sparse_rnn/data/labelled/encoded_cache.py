"""Encoded texts kept on disk, so that only the first start has to read and encode the source texts."""

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import torch
from filelock import FileLock

from sparse_rnn.core.tensor_files import read_tensors, save_tensors
from sparse_rnn.data.content import file_facts
from sparse_rnn.data.corpus import SPLITS
from sparse_rnn.data.labelled.texts import LabelledSplit, LabelledTexts
from sparse_rnn.data.text_files import reading

VERSION = 3  # of the encoding and of the files
WORDS = "words"  # the tensor of the words, as bytes


def cached(folder: Path, key: object, make: Callable[[], LabelledTexts]) -> LabelledTexts:
    """What `make` returns, read from the file of this key in `folder` if that is there and sound.

    key: anything that JSON can hold. Of several processes that ask at once, one calls `make`. Without a folder that can
    be written and locked, nothing is kept.
    """
    name = hashlib.sha256(json.dumps([VERSION, key]).encode()).hexdigest()[:16]
    path = folder / f"{name}.safetensors"
    if found := _read(path):
        return found
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(folder / f".{name}.lock"))
        except (OSError, NotImplementedError):  # NotImplementedError: a file system without locks
            return make()
        if found := _read(path):
            return found
        made = make()
        _write(path, made)
        return made


def file_stats(sources: Sequence[Path]) -> list[tuple[str, int, int, int, int]]:
    """The facts of each file, and of each file in a folder, that change with its content; raises ConfigError."""
    found: list[tuple[str, int, int, int, int]] = []
    for source in sources:
        with reading(source):
            found += file_facts(source.resolve())
    return found


def _read(path: Path) -> LabelledTexts | None:
    """The texts in a file of the cache; None if there is no such file or it is damaged."""
    try:
        tensors, metadata = read_tensors(path)
    except (OSError, ValueError):
        return None
    splits = {split: LabelledSplit(tensors[f"{split}.tokens"], tensors[f"{split}.labels"]) for split in SPLITS}
    classes, vocabulary, words, sha256 = json.loads(metadata["labelled_texts"])
    known = tensors[WORDS].numpy().tobytes().decode("utf-8", "surrogatepass").split("\n")
    return LabelledTexts(splits, tuple(classes), vocabulary, words, sha256, tuple(known))


def _write(path: Path, made: LabelledTexts) -> None:
    tensors = {f"{name}.tokens": split.tokens for name, split in made.splits.items()}
    tensors |= {f"{name}.labels": split.labels for name, split in made.splits.items()}
    # No word has a line feed in it, but one may have half of a character, see `NumberedTexts.extend`.
    words = "\n".join(made.known).encode("utf-8", "surrogatepass")
    tensors[WORDS] = torch.frombuffer(bytearray(words), dtype=torch.uint8)
    described = json.dumps([made.classes, made.vocabulary, made.words, made.sha256])
    with suppress(OSError):  # it only saves time
        save_tensors(path, tensors, {"labelled_texts": described})

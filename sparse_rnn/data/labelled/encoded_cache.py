"""Encoded texts kept on disk, so that only the first start has to read and encode the source texts."""

import hashlib
import json
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from filelock import FileLock
from safetensors import SafetensorError, safe_open

from sparse_rnn.core.tensor_files import save_tensors
from sparse_rnn.data.content import file_facts
from sparse_rnn.data.corpus import SPLITS
from sparse_rnn.data.labelled.readers import reading
from sparse_rnn.data.labelled.texts import LabelledSplit, LabelledTexts

VERSION = 1  # of the encoding and of the files


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
        with safe_open(path, "pt") as stream:
            written = stream.metadata()
            splits = {
                split: LabelledSplit(stream.get_tensor(f"{split}.tokens"), stream.get_tensor(f"{split}.labels"))
                for split in SPLITS
            }
        if written["crc32"] != _checksum(written["labelled_texts"], splits):
            return None
    except (OSError, SafetensorError, KeyError, TypeError):
        return None
    classes, *others = json.loads(written["labelled_texts"])
    return LabelledTexts(splits, tuple(classes), *others)


def _write(path: Path, made: LabelledTexts) -> None:
    tensors = {f"{name}.tokens": split.tokens for name, split in made.splits.items()}
    tensors |= {f"{name}.labels": split.labels for name, split in made.splits.items()}
    described = json.dumps([made.classes, made.vocabulary, made.words, made.sha256])
    with suppress(OSError):  # it only saves time
        save_tensors(path, tensors, {"labelled_texts": described, "crc32": _checksum(described, made.splits)})


def _checksum(described: str, splits: Mapping[str, LabelledSplit]) -> str:
    checksum = zlib.crc32(described.encode())
    for name in SPLITS:
        checksum = zlib.crc32(splits[name].tokens.numpy().data, checksum)
        checksum = zlib.crc32(splits[name].labels.numpy().data, checksum)
    return str(checksum)

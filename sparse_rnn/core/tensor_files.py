"""Safetensors files that are complete or not there, with a checksum of what they hold."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from sparse_rnn.core.files import atomic
from sparse_rnn.core.reading import open_plain

CHECKSUM = "sha256"  # its key in the metadata


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """Write a safetensors file atomically; returns the checksum of its content. Raises OSError."""
    checksum = _checksum(tensors, metadata)
    with atomic(path) as draft, draft.open("rb+") as stream:
        stream.write(save(dict(tensors), {**metadata, CHECKSUM: checksum}))
    return checksum


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a safetensors file, on the CPU, and its metadata.

    Raises OSError, and ValueError if the file is damaged. A file without a checksum, which others or older versions
    have written, is taken as it is.
    """
    with _opened(path) as stored:
        tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        metadata = dict(stored.metadata() or {})
    if CHECKSUM in metadata and metadata[CHECKSUM] != _checksum(tensors, metadata):
        raise ValueError("its checksum is not that of what was written")
    return tensors, metadata


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file, without a look at its tensors. Raises OSError, ValueError."""
    with _opened(path) as stored:
        return dict(stored.metadata() or {})


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """A safetensors file. Raises the system's own OSError, which safetensors words anew, and ValueError."""
    open_plain(path).close()
    try:
        with safe_open(path, framework="pt") as stored:
            yield stored
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _checksum(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> str:
    """SHA-256 of names, types, shapes and values, and of the metadata but the checksum itself."""
    others = {key: value for key, value in metadata.items() if key != CHECKSUM}
    total = hashlib.sha256(json.dumps(others, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        total.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()

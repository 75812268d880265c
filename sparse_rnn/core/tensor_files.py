"""Safetensors files that are complete or not there."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from sparse_rnn.core.files import atomic


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically; raises OSError if the disk is full or the folder cannot be written."""
    with atomic(path) as draft:
        try:
            save_file(dict(tensors), draft, dict(metadata))
        except SafetensorError as error:
            raise OSError(f"writing {path.name} failed: {error}") from error

"""Files of tensors carry a checksum of all that they hold."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sparse_rnn.core.tensor_files import CHECKSUM, read_tensors, save_tensors

TENSORS = {
    "floats": torch.arange(6.0).view(2, 3),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "bits": torch.tensor([True, False]),
    "empty": torch.zeros(0, 4),
    "number": torch.tensor(3, dtype=torch.int64),
}
METADATA = {"epoch": "3", "weights": "raw"}


def read(path: Path) -> tuple[dict[str, tuple[torch.dtype, list[int], list[float]]], dict[str, str]]:
    tensors, metadata = read_tensors(path)
    found = {name: (each.dtype, list(each.shape), each.flatten().tolist()) for name, each in tensors.items()}
    return found, {key: metadata[key] for key in METADATA}


def test_no_flipped_bit_changes_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    checksum = save_tensors(path, TENSORS, METADATA)
    assert read_tensors(path)[1][CHECKSUM] == checksum
    whole, expected, unnoticed = path.read_bytes(), read(path), []
    for bit in range(0, 8 * len(whole), 3):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        try:
            if read(path) != expected:
                unnoticed.append(bit)
        except (ValueError, KeyError):
            continue
    assert unnoticed == []


def test_a_block_of_zeros_and_a_cut_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    save_tensors(path, {"a": torch.randn(8000), "b": torch.randn(8000)}, METADATA)
    whole = path.read_bytes()
    for start in range(0, len(whole), 4096):
        path.write_bytes(whole[:start] + bytes(len(whole[start : start + 4096])) + whole[start + 4096 :])
        with pytest.raises(ValueError, match=r"."):
            read_tensors(path)
        path.write_bytes(whole[:start])
        with pytest.raises(ValueError, match=r"."):
            read_tensors(path)


def test_a_file_without_a_checksum_is_read(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "x", METADATA)
    tensors, metadata = read_tensors(tmp_path / "x")
    assert metadata == METADATA
    assert all(torch.equal(tensors[name], each) for name, each in TENSORS.items())


def test_the_system_says_why_a_file_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_tensors(tmp_path / "missing")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="it is a FIFO, no file"):
        read_tensors(tmp_path / "pipe")


def test_the_mode_follows_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        save_tensors(tmp_path / "x", TENSORS, METADATA)
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640

"""Random numbers that depend on a key alone, whatever was drawn before."""

import hashlib

import torch
from torch import Tensor

MIXED_AT_ONCE = 1 << 16

# x ^= x >>> shift; x *= factor: shifts and factors of two 32-bit mixers with little bias, by Chris Wellons
# (https://github.com/skeeto/hash-prospector). Each round ends with a shift alone.
FIRST_ROUND = ((16, 0x7FEB352D), (15, 0x846CA68B), (16, 1))
SECOND_ROUND = ((16, 0x21F0AAAD), (15, 0xD35A2D97), (15, 1))


def _digest(key: tuple[object, ...]) -> bytes:
    """A hash of strings and integers that is the same in every process, 32 bytes."""
    return hashlib.sha256(repr(key).encode()).digest()


def generator(*key: object) -> torch.Generator:
    """A generator on the CPU, seeded by a hash of `key` (strings and integers) that is the same in every process."""
    return torch.Generator().manual_seed(int.from_bytes(_digest(key)[:8], "little") >> 1)  # seeds have 63 bits


def position_keys(positions: Tensor, *key: object) -> Tensor:
    """A number for each position that looks random, int32 [n], the same on every device.

    positions: int64 [n], from 0 to below 2^32. Different positions get different numbers: for each `key` (strings and
    integers), the numbers are a permutation of all 32-bit integers.
    """
    # Products wrap around in int32 alike on every device. On a CPU, pieces stay in cache.
    words = [int.from_bytes(_digest(key)[start : start + 4], "little", signed=True) for start in (8, 12)]
    keys = torch.empty(positions.shape, dtype=torch.int32, device=positions.device)
    size = MIXED_AT_ONCE if positions.device.type == "cpu" else max(positions.numel(), 1)
    shifted = torch.empty(min(size, positions.numel()), dtype=torch.int32, device=positions.device)
    for source, piece in zip(torch.split(positions, size), torch.split(keys, size), strict=True):
        piece.copy_(source)
        for word, rounds in zip(words, (FIRST_ROUND, SECOND_ROUND), strict=True):
            piece.bitwise_xor_(word)
            _mix(piece, rounds, shifted[: piece.numel()])
    return keys


def _mix(keys: Tensor, rounds: tuple[tuple[int, int], ...], shifted: Tensor) -> None:
    """Mix the bits of int32 keys in place; `shifted` is memory of their size."""
    for shift, factor in rounds:
        # torch shifts copies of the sign in from the left: the mask clears them.
        torch.bitwise_right_shift(keys, shift, out=shifted).bitwise_and_((1 << (32 - shift)) - 1)
        keys.bitwise_xor_(shifted)
        if factor != 1:
            keys.mul_(factor - (factor >> 31 << 32))  # as a signed number

"""Random numbers that depend on a key alone, whatever was drawn before."""

import hashlib

import torch


def generator(*key: object) -> torch.Generator:
    """A generator on the CPU, seeded by a hash of `key` (strings and integers) that is the same in every process."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)  # seeds have 63 bits

"""Random numbers that depend on a key alone, not on what was drawn before."""

import hashlib

import torch


def generator(*key: object) -> torch.Generator:
    """A CPU generator seeded by a stable hash of `key` (strings and integers)."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)

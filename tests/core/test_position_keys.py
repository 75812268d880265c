"""The numbers of positions: a permutation for each key, without a pattern that a draw would show."""

import hashlib

import pytest
import torch

from sparse_rnn.core import random
from sparse_rnn.core.random import position_keys


def by_hand(position: int, *key: object) -> int:
    """The same in Python's integers."""
    digest = hashlib.sha256(repr(key).encode()).digest()
    x = position ^ int.from_bytes(digest[8:12], "little")
    x ^= x >> 16
    x = x * 0x7FEB352D % 2**32
    x ^= x >> 15
    x = x * 0x846CA68B % 2**32
    x ^= x >> 16
    x ^= int.from_bytes(digest[12:16], "little")
    x ^= x >> 16
    x = x * 0x21F0AAAD % 2**32
    x ^= x >> 15
    x = x * 0xD35A2D97 % 2**32
    x ^= x >> 15
    return x - (x >> 31 << 32)


@pytest.mark.parametrize("key", [(1, 2656, "lstm.weight_hh_l0"), ("a",), (), (2**70, -1)])
def test_numbers_of_single_positions(key):
    positions = [0, 1, 2, 65_535, 65_536, 2**31 - 1, 2**31, 2**32 - 1]
    keys = position_keys(torch.tensor(positions), *key)
    assert keys.dtype == torch.int32
    assert keys.tolist() == [by_hand(position, *key) for position in positions]


@pytest.mark.parametrize("size", [1, 7, 1000, 1 << 20])
def test_pieces_do_not_matter(monkeypatch, size):
    positions = torch.arange(0, 3000, 3)
    whole = position_keys(positions, "key")
    monkeypatch.setattr(random, "MIXED_AT_ONCE", size)
    assert torch.equal(position_keys(positions, "key"), whole)
    assert torch.equal(position_keys(positions[500:], "key"), whole[500:])
    assert position_keys(positions[:0], "key").tolist() == []


def test_on_another_device_all_is_one_piece_there():
    keys = position_keys(torch.empty(200_000, dtype=torch.int64, device="meta"), "key")
    assert (keys.device.type, keys.shape, keys.dtype) == ("meta", (200_000,), torch.int32)


@pytest.mark.parametrize("key", [("a",), ("b",)])
def test_no_two_positions_have_the_same_number(key):
    assert position_keys(torch.arange(1 << 20), *key).unique().numel() == 1 << 20


@pytest.mark.parametrize("shift", [0, 12, 24])
def test_numbers_are_uniform_in_their_bits(shift):
    keys = [position_keys(torch.arange(100_000), "uniform", k) for k in range(5)]
    counts = torch.bincount((torch.cat(keys) >> shift) & 255, minlength=256).double()
    expected = 500_000 / 256
    assert 180 < float(((counts - expected) ** 2 / expected).sum()) < 347  # 255 degrees of freedom, p = .0001 each


def correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.double(), other.double()]))[0, 1])


@pytest.mark.parametrize("distance", [1, 2, 3, 64, 1500, 65_536])
def test_neighbours_are_not_correlated(distance):
    keys = position_keys(torch.arange(400_000), "neighbours")
    assert abs(correlation(keys[distance:], keys[:-distance])) < 4 / 330_000**0.5


def test_the_numbers_of_two_keys_are_independent():
    """Not even where one of the two words of a key is the same: the second one alone moves everything."""
    positions = torch.arange(400_000)
    bound = 4 / 400_000**0.5
    for one, other in [((1, 1), (1, 2)), ((1, 1), (2, 1)), (("a", 5), ("b", 5))]:
        keys, others = position_keys(positions, *one), position_keys(positions, *other)
        assert abs(correlation(keys, others)) < bound
        both = (keys < 0) & (others < 0)
        assert abs(float(both.double().mean()) - 0.25) < 4 * (3 / 16 / 400_000) ** 0.5


def test_one_bit_of_a_position_flips_half_of_the_bits():
    positions = torch.arange(20_000)
    keys = position_keys(positions, "avalanche")
    for bit in range(24):
        flipped = (keys ^ position_keys(positions ^ (1 << bit), "avalanche")).view(torch.uint8)
        share = sum(float(((flipped >> k) & 1).double().mean()) for k in range(8)) / 8
        assert abs(share - 0.5) < 0.01

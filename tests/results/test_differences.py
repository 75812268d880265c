"""Differences paired over seeds: golden values by hand."""

import math

import pytest

from results.differences import Difference, paired


def test_mean_and_interval_of_three_seeds() -> None:
    """Differences 1, 2, 3: deviation 1, standard error 1/sqrt(3); t of 2 degrees of freedom at 97.5 % is 4.302653."""
    found = paired({1: 11.0, 2: 12.0, 3: 13.0}, {1: 10.0, 2: 10.0, 3: 10.0})
    assert found is not None
    half = 4.302652729911275 / math.sqrt(3)
    assert found == Difference((1, 2, 3), 2.0, pytest.approx(2 - half), pytest.approx(2 + half))
    assert not found.apart


def test_what_both_seeds_share_cancels() -> None:
    """Unpaired, the spread of the seeds would hide a difference that each of them shows."""
    found = paired({1: 100.0, 2: 110.0, 3: 120.0}, {1: 99.0, 2: 108.9, 3: 119.1})
    assert found is not None
    assert found.apart
    assert (-found).high == -found.low < 0


def test_only_seeds_of_both_count() -> None:
    found = paired({1: 5.0, 2: 6.0, 7: 9.0}, {2: 4.0, 7: 7.0, 8: 0.0})
    assert found is not None
    assert (found.seeds, found.mean, found.low, found.high) == ((2, 7), 2.0, 2.0, 2.0)
    assert found.apart
    assert paired({1: 5.0}, {2: 5.0}) is None


@pytest.mark.parametrize("b", [{1: 3.0}, {1: math.inf, 2: 3.0}], ids=["one seed", "a run diverged"])
def test_without_an_interval_nothing_is_told_apart(b: dict[int, float]) -> None:
    found = paired({1: 5.0, 2: 5.0}, b)
    assert found is not None
    assert (found.low, found.high, found.apart) == (-math.inf, math.inf, False)

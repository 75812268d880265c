"""Where a curve over sparsity crosses the line of its dense model, by hand."""

import math

import pytest

from results.figures.crossings import crossing

SPARSITIES = [0.5, 0.6, 0.8, 0.9]


@pytest.mark.parametrize(
    ("perplexities", "expected"),
    [
        ([70.0, 70.0, 74.0, 80.0], 0.7),  # halfway between 0.6 and 0.8 it is 72
        ([73.0, 74.0, 75.0, 76.0], None),  # never as good
        ([70.0, 70.0, 71.0, 71.5], 0.9),  # as good everywhere
        ([70.0, 71.0, 72.0, 80.0], 0.8),  # exactly at a point
        ([80.0, 75.0, 74.0, 72.0], 0.9),  # exactly at the last
        ([70.0, 73.0, 71.0, 75.0], 0.825),  # three crossings: the one with the fewest parameters
        ([74.0, 71.0, 73.0, 75.0], 0.7),
        ([70.0, 70.0, 70.0, math.inf], 0.8),  # what diverged is never reached
        ([70.0, math.nan, 73.0, 80.0], 0.7),  # a point that is not there is skipped
    ],
)
def test_the_highest_sparsity_that_is_as_good_as_dense(perplexities, expected):
    assert crossing(SPARSITIES, perplexities, 72.0) == pytest.approx(expected)


def test_the_order_of_the_points_does_not_matter():
    assert crossing([0.9, 0.5, 0.8, 0.6], [80.0, 70.0, 74.0, 70.0], 72.0) == pytest.approx(0.7)


def test_without_points_there_is_none():
    assert crossing([], [], 72.0) is None

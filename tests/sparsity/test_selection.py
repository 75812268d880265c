import json
from pathlib import Path

import pytest
import torch

from sparse_rnn.core.random import generator
from sparse_rnn.sparsity.selection import apportion, select_random, select_smallest

GOLDEN = Path(__file__).parent.parent / "golden"
NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("total", "shares", "capacities", "expected"),
    [
        (10, [1, 1, 2], [10, 10, 10], [3, 2, 5]),  # 2.5 2.5 5: the first of two equal remainders
        (7, [6, 3, 1], [10, 10, 10], [4, 2, 1]),  # 4.2 2.1 0.7: the remainder 0.7 is the largest
        (10, [8, 1, 1], [4, 10, 10], [4, 3, 3]),  # 8 is capped at 4, its 4 go half and half
        (10, [7, 2, 1], [5, 3, 10], [5, 3, 2]),  # 5 are left: 3.33 is capped at 3
        (5, [0, 0, 0, 0], [9, 9, 9, 9], [2, 1, 1, 1]),
        (5, [1, 0, 0], [3, 9, 9], [3, 1, 1]),  # zero shares gain only what nobody else can hold
        (3, [1, 1], [0, 3], [0, 3]),
        (4, [-1, 2], [9, 9], [0, 4]),
        (0, [1, 2], [3, 4], [0, 0]),
        (0, [], [], []),
        (7, [1, 2], [3, 4], [3, 4]),
        (3, [NAN, 1], [9, 9], [0, 3]),  # a share that means nothing is none
        (3, [1, INF], [9, 9], [3, 0]),
    ],
)
def test_apportion_by_hand(total, shares, capacities, expected):
    assert apportion(total, shares, capacities) == expected


def test_apportion_is_exact_capped_and_within_one_of_the_quota():
    random = torch.Generator().manual_seed(1)
    for _ in range(200):
        n = int(torch.randint(1, 9, (), generator=random))
        shares = torch.rand(n, generator=random).tolist()
        capacities = torch.randint(0, 50, (n,), generator=random).tolist()
        total = int(torch.randint(0, sum(capacities) + 1, (), generator=random))
        parts = apportion(total, shares, capacities)
        assert sum(parts) == total
        assert all(0 <= part <= capacity for part, capacity in zip(parts, capacities, strict=True))
        free = apportion(total, shares, [total] * n)
        quotas = [total * share / sum(shares) for share in shares]
        assert all(abs(part - quota) < 1 for part, quota in zip(free, quotas, strict=True))


@pytest.mark.parametrize("total", [8, -1])
def test_apportion_refuses_what_does_not_fit(total):
    with pytest.raises(ValueError, match="cannot place"):
        apportion(total, [1, 1], [3, 4])


@pytest.mark.parametrize(
    ("values", "candidates", "count", "expected"),
    [
        ([3, 1, 2, 0], [1, 1, 1, 1], 2, [0, 1, 0, 1]),
        ([3, 1, 2, 0], [1, 1, 1, 0], 2, [0, 1, 1, 0]),  # the smallest is no candidate
        ([1, 1, 1, 1], [0, 1, 1, 1], 2, [0, 1, 1, 0]),  # ties: the lower index
        ([0, 2, 2, 2], [1, 1, 1, 1], 3, [1, 1, 1, 0]),
        ([5, 5, 5, 5], [1, 1, 1, 1], 0, [0, 0, 0, 0]),
        ([5, 5, 5, 5], [0, 1, 1, 0], 2, [0, 1, 1, 0]),
        ([NAN, 2, NAN, 1], [1, 1, 1, 1], 2, [0, 1, 0, 1]),  # NaN goes last
        ([NAN, 2, NAN, 1], [1, 1, 1, 1], 3, [1, 1, 0, 1]),
        ([NAN, NAN, NAN, NAN], [1, 0, 1, 1], 2, [1, 0, 1, 0]),
        ([-INF, INF, 0, NAN], [1, 1, 1, 1], 2, [1, 0, 1, 0]),
    ],
)
def test_select_smallest_by_hand(values, candidates, count, expected):
    chosen = select_smallest(torch.tensor(values, dtype=torch.float), torch.tensor(candidates).bool(), count)
    assert chosen.int().tolist() == expected


@pytest.mark.parametrize("count", [3, -1])
def test_select_smallest_refuses_a_count_that_cannot_be(count):
    with pytest.raises(ValueError, match="cannot select"):
        select_smallest(torch.zeros(4), torch.tensor([True, True, False, False]), count)


@pytest.mark.parametrize("count", [0, 1, 37, 60])
def test_select_random_is_exact_and_stays_among_the_candidates(count):
    candidates = torch.arange(100) % 5 < 3
    chosen = select_random(candidates, count, 1, "a")
    assert int(chosen.sum()) == count
    assert not (chosen & ~candidates).any()


def test_select_random_depends_on_its_key_alone():
    candidates = torch.ones(200, dtype=torch.bool)
    first = select_random(candidates, 50, 1, 20, "lstm.weight_hh_l0")
    torch.manual_seed(99)
    torch.rand(7)
    before = torch.get_rng_state()
    assert torch.equal(select_random(candidates, 50, 1, 20, "lstm.weight_hh_l0"), first)
    assert torch.equal(torch.get_rng_state(), before), "the global stream must not move"
    for other in [(2, 20, "lstm.weight_hh_l0"), (1, 21, "lstm.weight_hh_l0"), (1, 20, "lstm.weight_ih_l0")]:
        assert not torch.equal(select_random(candidates, 50, *other), first)
    assert generator(1, 23).initial_seed() != generator(12, 3).initial_seed()


def test_select_random_is_the_same_in_every_session():
    golden = json.loads((GOLDEN / "select_random.json").read_text())
    chosen = select_random(torch.ones(golden["size"], dtype=torch.bool), golden["count"], *golden["key"])
    assert chosen.nonzero().flatten().tolist() == golden["chosen"]


def test_select_random_is_uniform_over_the_candidates():
    candidates = torch.tensor([True, False, True, True, True, False, True, True, True, True])
    draws, count = 4000, 2
    hits = sum(select_random(candidates, count, "uniform", k).int() for k in range(draws))
    expected = draws * count / 8
    chi_square = float(((hits[candidates] - expected) ** 2 / expected).sum())
    assert chi_square < 24.3  # 7 degrees of freedom, p = .001
    assert not hits[~candidates].any()

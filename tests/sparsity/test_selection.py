import json
from pathlib import Path

import pytest
import torch
from torch import nn

from sparse_rnn.core.random import generator
from sparse_rnn.sparsity import selection
from sparse_rnn.sparsity.rules.growth import RandomGrowth
from sparse_rnn.sparsity.selection import apportion, select_random, select_smallest
from sparse_rnn.sparsity.sparsifier import Sparsifier
from sparse_rnn.sparsity.topology import SparseTopology

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
    golden = json.loads((GOLDEN / "select_random.json").read_text())["growth"]
    chosen = select_random(torch.ones(golden["size"], dtype=torch.bool), golden["count"], *golden["key"])
    assert chosen.nonzero().flatten().tolist() == golden["chosen"]


def test_the_first_topology_is_the_one_that_runs_always_started_from(method):
    golden = json.loads((GOLDEN / "select_random.json").read_text())["first_topology"]
    topology = SparseTopology.of(nn.LSTM(3, 5))
    optimizer = torch.optim.SGD([weight.parameter for weight in topology], 0.1)
    config = method(removal="magnitude", scope="gate")
    Sparsifier(config, RandomGrowth(), topology, optimizer, seed=7, init_seed=golden["init_seed"])
    assert {weight.name: weight.mask.flatten().nonzero().flatten().tolist() for weight in topology} == golden["masks"]


@pytest.mark.parametrize("count", [9, -1])
def test_select_random_refuses_a_count_that_cannot_be(count):
    with pytest.raises(ValueError, match="cannot select"):
        select_random(torch.arange(16) % 2 == 0, count, 1)


def values_with(kind: str, random: torch.Generator, n: int) -> torch.Tensor:
    """Values with few, many or no ties; some are not finite, or zeros of either sign."""
    if kind == "ties":
        return torch.randint(-2, 3, (n,), generator=random).float() * 0.5
    values = torch.randn(n, generator=random)
    if kind == "not finite":
        strange = torch.tensor([NAN, INF, -INF, 0.0, -0.0])
        where = torch.rand(n, generator=random) < 0.7
        values[where] = strange[torch.randint(5, (n,), generator=random)][where]
    return {"bfloat16": values.bfloat16(), "double": values.double()}.get(kind, values)


@pytest.mark.parametrize("kind", ["no ties", "ties", "not finite", "bfloat16", "double"])
def test_what_a_gpu_computes_is_what_the_cpu_computes(monkeypatch, kind):
    """The selection of a GPU, on tensors of the CPU."""
    random = torch.Generator().manual_seed(1)
    for case in range(40):
        n = int(torch.randint(1, 200, (), generator=random))
        values, candidates = values_with(kind, random, n), torch.rand(n, generator=random) < 0.8
        offered = int(candidates.count_nonzero())
        for count in {0, min(1, offered), offered // 3, offered}:
            for key in (None, (1, case)):
                ours = select_smallest(values, candidates, count, key)
                drawn = select_random(candidates, count, case)
                with monkeypatch.context() as gpu:
                    gpu.setattr(selection, "kth_smallest", selection._by_topk)
                    gpu.setattr(selection, "positions_of", lambda mask: mask.flatten().nonzero().flatten())
                    assert torch.equal(select_smallest(values, candidates, count, key), ours)
                    assert torch.equal(select_random(candidates, count, case), drawn)
                assert int(ours.count_nonzero()) == count
                assert not (ours & ~candidates).any()


def test_ties_are_drawn_uniformly_and_only_as_far_as_needed():
    values = torch.tensor([5.0, 1, 1, 0, 1, 1, 1, 9])
    everywhere = torch.ones(8, dtype=torch.bool)
    draws = 1500
    hits = sum(select_smallest(values, everywhere, 3, ("ties", k)).int() for k in range(draws))
    assert hits[[0, 3, 7]].tolist() == [0, draws, 0]
    expected = draws * 2 / 5
    assert float(((hits[[1, 2, 4, 5, 6]] - expected) ** 2 / expected).sum()) < 18.5  # 4 degrees of freedom, p = .001


def test_select_random_is_uniform_over_the_candidates():
    candidates = torch.tensor([True, False, True, True, True, False, True, True, True, True])
    draws, count = 4000, 2
    hits = sum(select_random(candidates, count, "uniform", k).int() for k in range(draws))
    expected = draws * count / 8
    chi_square = float(((hits[candidates] - expected) ** 2 / expected).sum())
    assert chi_square < 24.3  # 7 degrees of freedom, p = .001
    assert not hits[~candidates].any()

"""Expected masks are written out: 1 where an inactive entry grows."""

import pytest
import torch

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.sparsity.rules.growth import GradientGrowth, MomentumGrowth, NoGrowth, RandomGrowth

VALUES = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0]
SIGNAL = torch.tensor([9.0, -3.0, 0.5, 2.0, 9.0, -0.1, 3.0, 9.0]).reshape(4, 2)


@pytest.mark.parametrize(("rule", "signal"), [(GradientGrowth(), "gradient"), (MomentumGrowth(), "momentum")])
@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, [0, 0, 0, 0, 0, 0, 0, 0]),
        (2, [0, 1, 0, 0, 0, 0, 1, 0]),  # |-3| and 3
        (3, [0, 1, 0, 1, 0, 0, 1, 0]),
        (5, [0, 1, 1, 1, 0, 1, 1, 0]),
    ],
)
def test_the_largest_magnitude_among_the_inactive_grows(group_of, rule, signal, count, expected):
    """RigL by |gradient|, SNFS by |momentum|; the 9s are active already."""
    group = group_of(VALUES)
    grown = rule(group, ~group.active, count, {signal: {"w": SIGNAL}}, (1, 2))
    assert grown.int().tolist() == expected
    assert rule.needs == {signal}


def test_random_growth_reads_no_signal_and_is_exact(group_of):
    group = group_of(VALUES)
    rule = RandomGrowth()
    grown = rule(group, ~group.active, 3, {}, (1, 2))
    assert rule.needs == frozenset()
    assert int(grown.sum()) == 3
    assert not (grown & group.active).any()
    assert torch.equal(rule(group, ~group.active, 3, {}, (1, 2)), grown)


def test_random_growth_differs_between_seeds_steps_and_weights(group_of):
    def grown(name: str, key: tuple[int, int]):
        group = group_of([0.0] * 64, name=name)
        return RandomGrowth()(group, ~group.active, 20, {}, key).tolist()

    draws = [grown(*case) for case in [("w", (1, 2)), ("w", (2, 2)), ("w", (1, 3)), ("v", (1, 2))]]
    assert all(draws[i] != draws[j] for i in range(4) for j in range(i))


def test_random_growth_gives_every_inactive_entry_the_same_chance(group_of):
    """Selfish-RNN Eq. 3."""
    group = group_of(VALUES)
    draws = 2000
    hits = sum(RandomGrowth()(group, ~group.active, 2, {}, (1, step)).float() for step in range(draws))
    expected = draws * 2 / 5
    assert float(((hits[~group.active] - expected) ** 2 / expected).sum()) < 18.5  # 4 degrees of freedom, p = .001


def test_no_growth_grows_nothing(group_of):
    group = group_of(VALUES)
    assert not NoGrowth()(group, ~group.active, 0, {}, (1, 2)).any()
    with pytest.raises(ValueError, match="cannot grow"):
        NoGrowth()(group, ~group.active, 1, {}, (1, 2))


@pytest.mark.parametrize("beta", [-0.1, 1.0])
def test_a_momentum_that_never_forgets_is_refused(beta):
    with pytest.raises(ConfigError, match="beta"):
        MomentumGrowth(beta=beta)


@pytest.mark.parametrize(("rule", "signal"), [(GradientGrowth(), "gradient"), (MomentumGrowth(), "momentum")])
def test_zero_gradients_are_drawn_not_taken_by_index(group_of, rule, signal):
    """Embedding rows of words that the last minibatch lacks have no gradient: their order in the vocabulary must not
    decide which of them become dense."""
    group = group_of([9.0, *[0.0] * 999])
    dense = torch.zeros(1000)
    dense[[500, 900]] = torch.tensor([1.0, -2.0])
    grown = [rule(group, ~group.active, 302, {signal: {"w": dense.reshape(-1, 2)}}, (1, step)) for step in range(2)]
    for mask in grown:
        assert int(mask.sum()) == 302
        assert bool(mask[[500, 900]].all())
        assert 100 < int(mask[:500].sum()) < 200
    assert not torch.equal(*grown)

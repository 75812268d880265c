"""Removal that reads gradients, draws, or remembers signs: expected masks are written out."""

import pytest
import torch

from sparse_rnn.sparsity.groups import groups_of
from sparse_rnn.sparsity.rules.removal import (
    Magnitude,
    MagnitudeAndGradient,
    Moment,
    RemovalSettings,
    SignFlip,
    SoftMagnitude,
)
from sparse_rnn.sparsity.selection import select_weighted
from sparse_rnn.sparsity.topology import SparseTopology

VALUES = [0.1, 0.4, -0.2, 0.3, -0.9, -0.8, 0.0, 0.0]


def test_mest_keeps_small_weights_with_large_gradients(group_of):
    """|w| + .01 |g| = .6, .4, .3, .3, .9, .8: the third and the fourth go, and not the first as by magnitude."""
    group = group_of(VALUES)
    gradient = torch.tensor([-50.0, 0.0, 10.0, 0.0, 0.0, 0.0, 7.0, -7.0]).reshape(4, 2)
    at = Moment(signals={"active_gradient": {"w": gradient}})
    assert MagnitudeAndGradient()(group, 2, at).int().tolist() == [0, 0, 1, 1, 0, 0, 0, 0]
    assert Magnitude()(group, 2, at).int().tolist() == [1, 0, 1, 0, 0, 0, 0, 0]
    plain = MagnitudeAndGradient(RemovalSettings(gradient_weight=0.0))
    assert plain(group, 2, at).int().tolist() == [1, 0, 1, 0, 0, 0, 0, 0]


@pytest.mark.parametrize("progress", [0.0, 1.0])
def test_soft_removal_draws_what_stays_in_proportion_to_a_power(group_of, progress):
    """One of |w| = .1, .4, .2, .3 stays: T = 1 at first, T = 3 at the end."""
    group, draws = group_of([0.1, 0.4, -0.2, 0.3, 0.0, 0.0]), 800
    rule = SoftMagnitude(RemovalSettings(temperature=3.0))
    hits = torch.zeros(6)
    for step in range(draws):
        removed = rule(group, 3, Moment(key=(1, step), progress=progress))
        assert int(removed.sum()) == 3
        hits += group.active & ~removed
    weights = torch.tensor([0.1, 0.4, 0.2, 0.3]) ** (1 + 2 * progress)
    expected = draws * weights / weights.sum()
    assert float(((hits[:4] - expected) ** 2 / expected).sum()) < 16.3  # 3 degrees of freedom, p = .001


def test_a_weight_of_zero_is_the_first_to_go_in_a_draw():
    odds = torch.tensor([0.0, 1.0, 0.0, 2.0]).log()
    everywhere = torch.ones(4, dtype=torch.bool)
    for step in range(20):
        assert select_weighted(odds, everywhere, 2, step).int().tolist() == [0, 1, 0, 1]
        assert int(select_weighted(odds, everywhere, 3, step).sum()) == 3


def test_a_weighted_draw_does_not_put_back():
    """Weights 1, 1, 2 and two draws: the third is left out with 1/4 * 1/3 * 2, that is 1/6."""
    odds, everywhere = torch.tensor([1.0, 1.0, 2.0]).log(), torch.ones(3, dtype=torch.bool)
    draws = 1500
    without = sum(not select_weighted(odds, everywhere, 2, "a", step)[2] for step in range(draws))
    assert without / draws == pytest.approx(1 / 6, abs=0.04)


def test_weights_that_flip_their_sign_go_however_many_they_are(weight_of):
    """The first and the fourth have crossed zero; the second, now zero, has not."""
    weight = weight_of(VALUES)
    topology = SparseTopology([weight])
    rule = SignFlip()
    rule.begin(topology, 3)
    weight.parameter.data = torch.tensor([-0.1, 0.0, -0.2, -0.3, -0.9, -0.8, 0.0, 0.0]).reshape(4, 2)
    [group] = groups_of(topology, "tensor")
    for asked in (0, 1, 6):
        assert rule(group, asked, Moment()).int().tolist() == [1, 0, 0, 1, 0, 0, 0, 0]


def test_signs_of_positions_never_change_and_are_part_of_a_checkpoint(weight_of):
    """A position that was inactive at first has a random sign, the same after a resume and for the same seed."""
    weight = weight_of([0.5, *[0.0] * 199])
    topology = SparseTopology([weight])
    rule, other = SignFlip(), SignFlip()
    rule.begin(topology, 3)
    other.begin(topology, 4)
    weight.set_mask(torch.ones_like(weight.mask))
    weight.parameter.data = torch.ones(100, 2)
    [group] = groups_of(topology, "tensor")
    flipped = rule(group, 0, Moment())
    assert 60 < int(flipped.sum()) < 140
    assert not torch.equal(other(group, 0, Moment()), flipped)
    other.load_state_dict(rule.state_dict())
    assert torch.equal(other(group, 0, Moment()), flipped)
    assert sum(bits.numel() for bits in rule.state_dict().values()) == 25  # one bit an entry

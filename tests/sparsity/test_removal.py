"""Expected masks are written out: 1 where an active weight goes."""

import pytest
import torch
from storages import as_tested

from sparse_rnn.sparsity.groups import groups_of
from sparse_rnn.sparsity.rules.removal import AdaptiveThreshold, Magnitude, Moment, SignedMagnitude
from sparse_rnn.sparsity.topology import SparseTopology

IH = [0.9, -0.5, 0.4, 0.0, -0.02, 0.3, 0.0, -0.1]
HH = [0.8, 0.7, -0.9, 0.0, 0.6, 0.65, 0.0, 0.99]


def remove_a_third(scope: str, weights) -> dict[str, list[int]]:
    """What magnitude removal takes from two gates of two rows each, in `ih` and `hh`, at p = 1/3."""
    topology = SparseTopology([as_tested(weight) for weight in weights])
    gone = {w.name: torch.zeros_like(w.mask) for w in topology}
    for group in groups_of(topology, scope):
        count = round(int(group.active.sum()) / 3)
        group.scatter(Magnitude()(group, count, Moment()), gone)
    return {name: mask.flatten().int().tolist() for name, mask in gone.items()}


@pytest.mark.parametrize(
    ("scope", "ih", "hh"),
    [
        # each gate loses one of its three
        ("gate", [0, 0, 1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 1, 0, 0, 0]),
        # each tensor loses two of its six: in both, the second gate pays
        ("tensor", [0, 0, 0, 0, 1, 0, 0, 1], [0, 0, 0, 0, 1, 1, 0, 0]),
        # the cell loses four of its twelve: ih pays
        ("cell", [0, 0, 1, 0, 1, 1, 0, 1], [0, 0, 0, 0, 0, 0, 0, 0]),
    ],
)
def test_magnitude_within_a_gate_a_tensor_and_a_cell(weight_of, scope, ih, hh):
    """Selfish-RNN Eq. 4 (cell), its published form (tensor), and the ablation without gate redistribution (gate)."""
    gates = ("input", "forget")
    weights = [weight_of(values, name=n, gates=gates, cell="lstm") for n, values in [("ih", IH), ("hh", HH)]]
    assert remove_a_third(scope, weights) == {"ih": ih, "hh": hh}


@pytest.mark.parametrize("scope", ["gate", "tensor", "cell"])
def test_weights_outside_a_cell_are_one_group_each(weight_of, scope):
    weights = [weight_of(values, name=n, gates=("a", "b")) for n, values in [("ih", IH), ("hh", HH)]]
    assert [group.size for group in groups_of(SparseTopology(weights), scope)] == [8, 8]


def test_an_active_weight_of_zero_goes_first_and_an_inactive_one_never(group_of):
    group = group_of([0.3, -0.1, 0.0, 0.0, 0.2, 0.4, 0.0, 0.5])
    mask = torch.tensor([[True, True], [False, True], [True, True], [False, True]])  # [1, 1] grown and not yet stepped
    group.blocks[0].weight.set_mask(mask)
    assert Magnitude()(group, 1, Moment()).int().tolist() == [0, 0, 0, 1, 0, 0, 0, 0]
    assert Magnitude()(group, 2, Moment()).int().tolist() == [0, 1, 0, 1, 0, 0, 0, 0]


def test_equal_magnitudes_do_not_remove_too_many(group_of):
    group = group_of([0.2, -0.2, 0.2, 0.2, 0.1, 0.0, 0.0, 0.9])
    assert Magnitude()(group, 3, Moment()).int().tolist() == [1, 1, 0, 0, 1, 0, 0, 0]


def test_set_takes_from_each_side_its_own_share(group_of):
    """facts B.2: of four positives and two negatives three go, two and one, each closest to zero. Magnitude alone
    would take the three smallest positives; the official code takes -.9."""
    group = group_of([0.1, 0.4, 0.2, 0.3, -0.9, -0.8, 0.0, 0.0])
    assert SignedMagnitude()(group, 3, Moment()).int().tolist() == [1, 0, 1, 0, 0, 1, 0, 0]
    assert Magnitude()(group, 3, Moment()).int().tolist() == [1, 0, 1, 1, 0, 0, 0, 0]


@pytest.mark.parametrize(("sign", "expected"), [(1, [1, 1, 0, 0]), (-1, [1, 1, 0, 0])])
def test_set_with_one_side_empty(group_of, sign, expected):
    group = group_of([sign * v for v in (0.1, 0.2, 0.3, 0.4)])
    assert SignedMagnitude()(group, 2, Moment()).int().tolist() == expected


def test_set_counts_exactly_where_sides_do_not_divide(group_of):
    """Three and three, one to go: half of one each is settled for the positives."""
    group = group_of([0.3, 0.2, 0.1, -0.3, -0.2, -0.1])
    assert SignedMagnitude()(group, 1, Moment()).int().tolist() == [0, 0, 1, 0, 0, 0]


def test_dsr_removes_what_is_below_its_threshold_whatever_is_asked(group_of):
    group = group_of([5e-4, -9e-4, 1.1e-3, 0.5, 0.0, 0.0, -0.2, 2e-3])
    assert AdaptiveThreshold()(group, 0, Moment()).int().tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert AdaptiveThreshold()(group, 5, Moment()).int().tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_dsr_keeps_the_largest_weight_of_a_group(group_of):
    group = group_of([5e-4, -9e-4, 1e-4, 0.0])
    assert AdaptiveThreshold()(group, 1, Moment()).int().tolist() == [1, 0, 1, 0]
    empty = group_of([0.0, 0.0, 0.0, 0.0])
    assert AdaptiveThreshold()(empty, 1, Moment()).int().tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("removed", "factor"),
    [(0, 2.0), (35, 2.0), (36, 1.0), (40, 1.0), (44, 1.0), (45, 0.5), (400, 0.5)],
)
def test_dsr_doubles_and_halves_outside_ten_percent_of_forty(removed, factor):
    """facts B.2: more than 1.1 of the target halves H, less than .9 of it doubles H."""
    rule = AdaptiveThreshold()
    assert rule.threshold == 1e-3
    rule.finish(removed, 40)
    assert rule.threshold == factor * 1e-3


def test_dsr_s_threshold_is_part_of_a_checkpoint():
    rule, other = AdaptiveThreshold(), AdaptiveThreshold()
    rule.finish(0, 40)
    other.load_state_dict(rule.state_dict())
    assert other.threshold == 2e-3

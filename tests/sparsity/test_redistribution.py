import pytest
import torch

from sparse_rnn.sparsity.rules.redistribution import (
    FreePositions,
    GateGradient,
    GateMagnitude,
    LayerMomentum,
    LayerNonzeros,
    WithinGroup,
)

# Two gates of four entries: "a" has two active of mean |w| .2 and two free, "b" one of .6 and three free.
TWO_GATES = [0.1, -0.3, 0.0, 0.0, 0.6, 0.0, 0.0, 0.0]


def counts(budget) -> dict[str, int]:
    return {group.name: count for group, count in budget}


def test_none_gives_each_group_what_it_lost(group_of):
    removed = [(group_of(TWO_GATES, name="v"), 3), (group_of(TWO_GATES, name="w"), 0)]
    assert counts(WithinGroup()(removed, {})) == {"v": 3, "w": 0}


def test_cell_gate_redistribution_treats_free_positions_alike(group_of):
    """Two of six free positions are in gate a, four in b (facts 0.3): 3 new weights go 1 : 2."""
    group = group_of([0.1, -0.3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], gates=("a", "b"))
    assert counts(FreePositions()([(group, 3)], {})) == {"w/a": 1, "w/b": 2}
    assert counts(FreePositions()([(group, 6)], {})) == {"w/a": 2, "w/b": 4}


@pytest.mark.parametrize(
    ("lost", "a", "b"),
    [
        (0, 0, 0),
        (4, 1, 3),  # 1 : 3
        (5, 2, 3),  # 1.25 : 3.75, and b holds 3
    ],
)
def test_gates_by_mean_magnitude(group_of, lost, a, b):
    """Selfish-RNN Table 6: means .2 and .6 of the active weights."""
    group = group_of(TWO_GATES, gates=("a", "b"))
    assert counts(GateMagnitude()([(group, lost)], {})) == {"w/a": a, "w/b": b}


def test_gates_by_mean_gradient_of_active_weights(group_of):
    """Selfish-RNN Table 6: means 1.5 and .5; the gradients of inactive weights do not count."""
    group = group_of(TWO_GATES, gates=("a", "b"))
    gradient = torch.tensor([1.0, -2.0, 90.0, 90.0, -0.5, 900.0, 900.0, 900.0]).reshape(4, 2)
    budget = GateGradient()([(group, 2)], {"gradient": {"w": gradient}})
    assert counts(budget) == {"w/a": 2, "w/b": 0}  # 1.5 : 0.5, the tie of remainders goes to the first
    assert GateGradient.needs == {"gradient"}


def test_gates_of_one_group_do_not_pay_for_those_of_another(group_of):
    removed = [(group_of(TWO_GATES, name=n, gates=("a", "b")), lost) for n, lost in [("v", 1), ("w", 4)]]
    budget = counts(GateMagnitude()(removed, {}))
    assert budget["v/a"] + budget["v/b"] == 1
    assert budget["w/a"] + budget["w/b"] == 4


def test_layers_by_survivors(group_of):
    """DSR: three and one survived, so of 4 + 4 removed the first gains 6, of which it holds 5, the second the rest."""
    first = group_of([0.1, 0.2, 0.3, 0.0, 0.0, 0.0, 0.0, 0.0], name="v")
    second = group_of([0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], name="w")
    assert counts(LayerNonzeros()([(first, 1), (second, 3)], {})) == {"v": 3, "w": 1}
    assert counts(LayerNonzeros()([(first, 4), (second, 4)], {})) == {"v": 5, "w": 3}


def test_layers_by_mean_momentum_of_active_weights(group_of):
    """SNFS: means 1 and 3 of the active weights; 4 new weights go 1 : 3 whoever lost them."""
    first = group_of([0.1, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], name="v")
    second = group_of([0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], name="w")
    signals = {
        "momentum": {
            "v": torch.tensor([-0.5, 1.5, 70, 70, 70, 70, 70, 70]).reshape(4, 2),
            "w": torch.tensor([-3.0, 0, 0, 0, 0, 0, 0, 0]).reshape(4, 2),
        }
    }
    assert counts(LayerMomentum()([(first, 4), (second, 0)], signals)) == {"v": 1, "w": 3}
    assert LayerMomentum.needs == {"momentum"}


def test_a_group_without_survivors_has_no_share_but_takes_what_does_not_fit_elsewhere(group_of):
    first = group_of([0.1, 0.2, 0.3, 0.0], name="v")
    second = group_of([0.0, 0.0, 0.0, 0.0], name="w")
    assert counts(LayerNonzeros()([(first, 0), (second, 3)], {})) == {"v": 1, "w": 2}

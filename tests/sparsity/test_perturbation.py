import pytest
import torch
from storages import as_tested

from sparse_rnn.sparsity.perturbation import Perturbation
from sparse_rnn.sparsity.topology import SparseTopology


def moved(weight_of, perturbation: Perturbation, values: list[float], *key: object) -> torch.Tensor:
    """The weight after one step of the walk at learning rate .5."""
    weight = as_tested(weight_of(values))
    optimizer = torch.optim.SGD([weight.parameter], 0.5)
    perturbation(SparseTopology([weight]), optimizer, *key)
    return weight.values.flatten()


def test_l1_draws_active_weights_to_zero(weight_of):
    """By lr l1 = .5 * .1."""
    values = moved(weight_of, Perturbation(0.0, 0.1), [1.0, -2.0, 0.0, 0.5], 1)
    assert values.tolist() == pytest.approx([0.95, -1.95, 0.0, 0.45])


def test_noise_moves_active_weights_alone_by_numbers_of_its_key(weight_of):
    values = [1.0, 0.0] * 2000
    one, same, other = (moved(weight_of, Perturbation(0.2, 0.0), values, 1, step) for step in (7, 7, 8))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    assert not one[1::2].any()
    steps = one[::2] - 1
    assert float(steps.std()) == pytest.approx(0.5 * 0.2, rel=0.05)  # lr * noise
    assert float(steps.mean()) == pytest.approx(0.0, abs=0.01)


def test_each_weight_moves_by_its_own_learning_rate(weight_of):
    weights = [as_tested(weight_of([1.0, 0.0], name=name)) for name in ("slow", "fast")]
    groups = [{"params": [w.parameter], "lr": lr} for w, lr in zip(weights, (0.1, 1.0), strict=True)]
    Perturbation(0.0, 0.5)(SparseTopology(weights), torch.optim.SGD(groups, 0.1))
    assert [float(w.values[0, 0]) for w in weights] == pytest.approx([0.95, 0.5])

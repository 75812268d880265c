"""Dropped recurrent weights."""

import pytest
import torch
from torch import nn

from sparse_rnn.models.layers.dropout import drop_connect


@pytest.fixture
def weight() -> nn.Parameter:
    torch.manual_seed(1)
    return nn.Parameter(torch.rand(300, 200) + 1)


@pytest.mark.parametrize(("inverted", "scale"), [(False, 1.0), (True, 1 / 0.55)])
def test_single_weights_are_dropped_in_training(weight, inverted, scale):
    dropped = drop_connect(weight, 0.45, True, inverted=inverted)
    zero = dropped == 0
    assert float(zero.float().mean()) == pytest.approx(0.45, abs=0.01)
    torch.testing.assert_close(dropped[~zero], weight[~zero] * scale)
    assert float(zero.float().mean(0).max()) < 0.7, "not whole columns"
    assert float(zero.float().mean(1).max()) < 0.7, "not whole rows"


@pytest.mark.parametrize(("inverted", "scale"), [(False, 0.55), (True, 1.0)])
def test_evaluation_uses_what_training_uses_on_average(weight, inverted, scale):
    evaluated = drop_connect(weight, 0.45, False, inverted=inverted)
    torch.testing.assert_close(evaluated, weight * scale)
    trained = drop_connect(weight, 0.45, True, inverted=inverted)
    assert trained.mean().item() == pytest.approx(evaluated.mean().item(), rel=0.02)


@pytest.mark.parametrize("inverted", [False, True])
def test_every_call_draws_anew(weight, inverted):
    first, second = (drop_connect(weight, 0.45, True, inverted=inverted) for _ in range(2))
    assert not torch.equal(first == 0, second == 0)


@pytest.mark.parametrize(("inverted", "scale"), [(False, 1.0), (True, 2.0)])
def test_a_dropped_weight_gets_no_gradient_and_stays_as_it_is(weight, inverted, scale):
    before = weight.detach().clone()
    dropped = drop_connect(weight, 0.5, True, inverted=inverted)
    dropped.sum().backward()
    assert torch.equal(weight.grad, (dropped != 0).float() * scale)
    assert torch.equal(weight, before)


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("inverted", [False, True])
def test_zero_probability_changes_nothing(weight, training, inverted):
    assert drop_connect(weight, 0.0, training, inverted=inverted) is weight

"""The exponential moving average of the weights (optimizer.ema) by hand, and through topology updates and runs."""

import copy

import pytest
import torch
from storages import as_tested, masked_only, set_gradient, state_of
from torch import nn

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.optim.configurations import AdamConfig, AdamWConfig, MomentumSGDConfig, SGDConfig
from sparse_rnn.optim.moving_average import AVERAGE, averaged_weights, keep_moving_average
from sparse_rnn.sparsity.topology import SparseTopology, SparseWeight


def set_up(values, decay=0.5):
    """A sparse weight without its zeros under SGD with a learning rate of 1 and an average."""
    parameter = nn.Parameter(torch.tensor([values]))
    weight = as_tested(SparseWeight("w", parameter, parameter.detach() != 0, {"all": slice(0, 1)}, None))
    optimizer = torch.optim.SGD([weight.parameter], 1.0)
    keep_moving_average(optimizer, decay)
    return weight, SparseTopology([weight]), optimizer


def step(weight, topology, optimizer, gradient):
    set_gradient(weight, torch.tensor([gradient]))
    topology.mask_gradients()
    optimizer.step()


def average(weight, optimizer):
    with averaged_weights(optimizer) as averaged:
        assert averaged
        return weight.values[0].tolist()


def test_by_hand():
    """w is 3, 2, 0 and the average 3, 2.5, 1.25."""
    weight, topology, optimizer = set_up([4.0, 0.0])
    found = []
    for gradient in (1.0, 1.0, 2.0):
        step(weight, topology, optimizer, [gradient, 9.0])
        found.append(average(weight, optimizer))
    assert found == [[3.0, 0.0], [2.5, 0.0], [1.25, 0.0]]
    assert weight.values.tolist() == [[0.0, 0.0]], "the raw weights come back"


def test_averages_follow_the_topology():
    """The first entry is removed, the second grows: its average restarts at zero, its value, and follows it. The third
    is removed and regrown at once, and so restarts as well."""
    weight, topology, optimizer = set_up([4.0, 0.0, 8.0])
    step(weight, topology, optimizer, [0.0, 0.0, 0.0])
    mask, restart = torch.tensor([[False, True, True]]), torch.tensor([[True, True, True]])
    topology.replace("w", mask, optimizer, restart)
    assert average(weight, optimizer) == [0.0, 0.0, 0.0]
    step(weight, topology, optimizer, [5.0, -2.0, -1.0])
    assert average(weight, optimizer) == [0.0, 1.0, 0.5]
    assert state_of(optimizer, weight)[AVERAGE].tolist() == [[0.0, 1.0, 0.5]]


@masked_only("it steps on dense gradients")
def test_averages_restart_under_dense_moments_too():
    weight, topology, optimizer = set_up([4.0, 0.0])
    step(weight, topology, optimizer, [0.0, 0.0])
    optimizer.state[weight.parameter]["momentum_buffer"] = torch.tensor([[3.0, 3.0]])
    topology.replace("w", torch.tensor([[False, True]]), optimizer, dense_state=True)
    assert optimizer.state[weight.parameter][AVERAGE].tolist() == [[0.0, 0.0]]
    assert optimizer.state[weight.parameter]["momentum_buffer"].tolist() == [[3.0, 3.0]]


@pytest.mark.parametrize("config", [AdamConfig, AdamWConfig, MomentumSGDConfig, SGDConfig])
def test_every_optimizer_steps_as_without_it_and_resumes(config):
    """Also where a parameter gets its first gradient late; the averages of a restored optimizer are the same."""

    def trained(ema, steps, states=None):
        torch.manual_seed(3)
        layer = nn.Linear(3, 2)
        optimizer = config(lr=0.1, ema=ema).build(layer.parameters(), None)
        if states is not None:
            layer.load_state_dict(states[0])
            optimizer.load_state_dict(copy.deepcopy(states[1]))
        for k in steps:
            layer.weight.grad = torch.full((2, 3), float(k))
            layer.bias.grad = torch.ones(2) if k > 1 else None
            optimizer.step()
        return layer, optimizer

    layer, optimizer = trained(0.9, range(5))
    plain, without = trained(0.0, range(5))
    assert torch.equal(layer.weight, plain.weight)
    assert torch.equal(layer.bias, plain.bias)
    half = trained(0.9, range(3))
    again, resumed = trained(0.9, range(3, 5), [each.state_dict() for each in half])
    with averaged_weights(optimizer) as one, averaged_weights(resumed) as two, averaged_weights(without) as none:
        assert (one, two, none) == (True, True, False)
        assert torch.equal(layer.weight, again.weight)
        assert torch.equal(layer.bias, again.bias)
        assert not torch.equal(layer.weight, plain.weight)


def test_the_raw_weights_come_back_if_evaluation_fails():
    weight, topology, optimizer = set_up([4.0, 0.0])
    step(weight, topology, optimizer, [1.0, 0.0])
    step(weight, topology, optimizer, [1.0, 0.0])
    with pytest.raises(KeyboardInterrupt), averaged_weights(optimizer):
        raise KeyboardInterrupt
    assert weight.values.tolist() == [[2.0, 0.0]]


def test_averaged_sgd_has_its_own_averages():
    parameter = nn.Parameter(torch.ones(2))
    optimizer = AveragedSGD([parameter], 1.0)
    optimizer.start_averaging()
    for gradient in (1.0, 2.0):
        parameter.grad = torch.full((2,), gradient)
        optimizer.step()
    with averaged_weights(optimizer) as averaged:
        assert averaged
        assert parameter.tolist() == [-1.0, -1.0]  # of 0 and -2


@pytest.mark.parametrize("ema", [-0.1, 1.0])
def test_a_decay_that_never_forgets_is_refused(ema):
    with pytest.raises(ConfigError, match=r"optimizer\.ema"):
        AdamConfig(ema=ema)

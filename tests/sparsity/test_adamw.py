"""AdamW under masks: weights shrink apart from the gradient, and what is inactive stays zero."""

import pytest
import torch
from storages import as_tested, set_gradient, state_of
from torch import nn

from sparse_rnn.core.protocol import ProtocolConfig
from sparse_rnn.optim.configurations import AdamConfig, AdamWConfig
from sparse_rnn.sparsity.topology import SparseTopology

VALUES = [1.0, -2.0, 0.0, 0.0, 3.0, 0.0, 0.5, 0.0]


def stepped(weight_of, config, steps=3):
    """A weight after steps on the gradients 1, 2, ..., masked."""
    weight = as_tested(weight_of(VALUES))
    topology, optimizer = SparseTopology([weight]), config.build([weight.parameter], ProtocolConfig())
    for step in range(1, steps + 1):
        set_gradient(weight, torch.full((4, 2), float(step)))
        topology.mask_gradients()
        optimizer.step()
    return topology, weight, optimizer


def test_active_weights_move_as_torch_s_and_others_stay_zero(weight_of):
    _, weight, optimizer = stepped(weight_of, AdamWConfig(lr=0.1))
    plain = nn.Parameter(torch.tensor(VALUES))
    torch_s = torch.optim.AdamW([plain], 0.1)
    for step in range(1, 4):
        plain.grad = torch.full((8,), float(step))
        torch_s.step()
    mask = torch.tensor(VALUES) != 0
    assert torch.equal(weight.values.flatten(), torch.where(mask, plain.detach(), 0.0))
    for key, tensor in state_of(optimizer, weight).items():
        assert not tensor.flatten()[~mask].any(), key


def test_decay_is_no_part_of_the_gradient(weight_of):
    """With a rate of .1 and a decay of .5, each step first takes 5 % off; Adam's step is then that of no decay."""
    decayed = stepped(weight_of, AdamWConfig(lr=0.1, weight_decay=0.5), 1)[1].values
    plain = stepped(weight_of, AdamConfig(lr=0.1), 1)[1].values
    start = torch.tensor(VALUES).reshape(4, 2)
    torch.testing.assert_close(decayed, plain - 0.05 * start)


@pytest.mark.parametrize("regrown", [False, True])
def test_grown_weights_start_with_the_mean_second_moment(weight_of, regrown):
    topology, weight, optimizer = stepped(weight_of, AdamWConfig(lr=0.1))
    mask = weight.mask.clone()
    mask[0, 0], mask[1, 0] = regrown, True
    restart = weight.mask ^ mask
    restart[0, 0] = True
    topology.replace(weight.name, mask, optimizer, restart)
    state, others = state_of(optimizer, weight), mask & ~restart
    assert not state["exp_avg"][restart].any()
    assert state["exp_avg_sq"][1, 0] == pytest.approx(float(state["exp_avg_sq"][others].mean()))
    assert weight.values[1, 0] == 0
    assert not weight.values[~mask].any()

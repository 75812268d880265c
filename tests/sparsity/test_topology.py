import pytest
import torch
from storages import as_tested, gradient_of, masked_only, set_gradient, state_of
from torch import nn

from sparse_rnn.sparsity import topology as topology_module
from sparse_rnn.sparsity.topology import SparseTopology, SparseWeight, pack_bits, unpack_bits


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (2, 4), (3, 3), (5, 13), (2, 3, 5), (0, 4)])
def test_packed_bits_give_the_mask_back(shape):
    mask = torch.rand(shape, generator=torch.Generator().manual_seed(3)) < 0.4
    bits = pack_bits(mask)
    assert bits.dtype == torch.uint8
    assert bits.numel() == -(-mask.numel() // 8)
    assert torch.equal(unpack_bits(bits, shape), mask)


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 160, 1001])
def test_bits_packed_on_a_gpu_are_those_of_the_cpu(count):
    """What runs on a GPU, on tensors of the CPU."""
    mask = torch.rand(count, generator=torch.Generator().manual_seed(count)) < 0.4
    assert torch.equal(topology_module._packed(mask), pack_bits(mask))
    assert torch.equal(topology_module._unpacked(pack_bits(mask))[:count], mask)


def test_the_first_entry_is_the_highest_bit():
    assert pack_bits(torch.tensor([True] + [False] * 6 + [True] + [False])).tolist() == [129, 0]


def test_packing_does_not_depend_on_the_memory_layout():
    mask = torch.rand(5, 6, generator=torch.Generator().manual_seed(3)) < 0.4
    assert torch.equal(unpack_bits(pack_bits(mask.T), (6, 5)), mask.T)


@pytest.mark.parametrize("bits", [torch.zeros(1, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)])
def test_bits_that_do_not_fit_are_refused(bits):
    with pytest.raises(ValueError, match="does not take"):
        unpack_bits(bits, (3, 3))


def topology_of(model: nn.Module) -> SparseTopology:
    topology = SparseTopology.of(model)
    for k, weight in enumerate(topology):
        weight.mask.copy_(torch.rand(weight.mask.shape, generator=torch.Generator().manual_seed(k)) < 0.5)
        as_tested(weight)
    return topology


def test_a_stored_topology_comes_back():
    stored = topology_of(nn.LSTM(3, 5))
    other = SparseTopology.of(nn.LSTM(3, 5))
    for weight in other:
        as_tested(weight)
    other.load_state_dict(stored.state_dict())
    assert all(torch.equal(weight.mask, stored[weight.name].mask) for weight in other)


def test_a_topology_of_other_names_shapes_or_counts_is_refused():
    topology = topology_of(nn.LSTM(3, 5))
    with pytest.raises(ValueError, match="weight_ih_l1"):
        topology.load_state_dict(topology_of(nn.LSTM(3, 5, num_layers=2)).state_dict())
    with pytest.raises(ValueError, match="weight_ih_l0 has shape"):
        topology.load_state_dict(topology_of(nn.LSTM(4, 5)).state_dict())
    damaged = topology.state_dict()
    damaged["weight_hh_l0"]["bits"][0] ^= 1
    with pytest.raises(ValueError, match="weight_hh_l0 is damaged"):
        topology.load_state_dict(damaged)


def test_density_of_the_model_its_weights_and_its_gates():
    model = nn.ModuleDict({"gru": nn.GRU(2, 2), "out": nn.Linear(2, 4)})
    topology = SparseTopology.of(model)
    topology["gru.weight_ih_l0"].mask[:] = torch.tensor([[1, 1], [1, 0], [0, 0], [0, 1], [0, 0], [0, 0]]).bool()
    topology["out.weight"].mask[:3] = False
    for weight in topology:
        as_tested(weight)
    assert topology.density() == {"model": (4 + 12 + 2) / 32}
    weights = {"gru.weight_ih_l0": 4 / 12, "gru.weight_hh_l0": 1.0, "out.weight": 0.25}
    assert topology.density(by="weight") == weights
    gates = topology.density(by="gate")
    assert [gates[f"gru.weight_ih_l0/{gate}"] for gate in ("reset", "update", "new")] == [0.75, 0.25, 0.0]
    assert gates["out.weight/all"] == 0.25


def test_density_of_nothing_is_that_of_a_dense_model():
    assert SparseTopology([]).density() == {"model": 1.0}


OPTIMIZERS = {
    "momentum_sgd": lambda p: torch.optim.SGD(p, 0.1, momentum=0.9),
    "adam": lambda p: torch.optim.Adam(p, 0.1, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, 0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, 0.1, momentum=0.9),
}


@pytest.fixture(params=list(OPTIMIZERS))
def trained(request, weight_of):
    """A 2 x 4 weight, its first row active, after one dense step: no value and no state that is stored is zero."""
    weight = as_tested(weight_of([1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0], columns=4))
    optimizer = OPTIMIZERS[request.param]([weight.parameter])
    set_gradient(weight, torch.arange(1.0, 9.0).reshape(2, 4))
    optimizer.step()
    assert (weight.parameter != 0).all()
    return SparseTopology([weight]), weight, optimizer


def test_enforce_zeroes_weights_and_state_where_inactive_and_nowhere_else(trained):
    topology, weight, optimizer = trained
    before = state_of(optimizer, weight)
    value = weight.values.clone()
    topology.enforce(optimizer)
    assert torch.equal(weight.values, value * weight.mask)
    after = state_of(optimizer, weight)
    assert after.keys() == before.keys()
    for key, tensor in after.items():
        assert torch.equal(tensor, before[key] * weight.mask)


def test_mask_gradients_touches_inactive_entries_only(trained):
    topology, weight, _ = trained
    topology.mask_gradients()
    assert gradient_of(weight).tolist() == [[1, 2, 3, 4], [0, 0, 0, 0]]
    weight.parameter.grad = None
    topology.mask_gradients()


@pytest.mark.parametrize("transposed", [False, True])
def test_masking_reaches_every_entry_of_a_large_weight(transposed):
    """Larger than the pieces in which masks are applied, in either memory layout."""
    values, mask = torch.ones(401, 701), torch.rand(401, 701, generator=torch.Generator().manual_seed(1)) < 0.3
    parameter = nn.Parameter(values.T if transposed else values)
    mask = mask.T if transposed else mask
    weight = as_tested(SparseWeight("w", parameter, mask, {"all": slice(0, len(parameter))}, None))
    SparseTopology([weight]).mask_weights()
    assert torch.equal(weight.values != 0, mask)


def test_replace_restarts_what_changed_and_nothing_else(trained):
    """Removed: entry 0. Grown: entry 4. Second moments of grown entries begin at the mean of the active ones."""
    topology, weight, optimizer = trained
    topology.enforce(optimizer)
    value = weight.values.clone()
    state = state_of(optimizer, weight)
    mask = torch.tensor([[False, True, True, True], [True, False, False, False]])
    topology.replace("w", mask, optimizer)
    assert torch.equal(weight.mask, mask)
    stays = torch.tensor([[False, True, True, True], [False, False, False, False]])
    assert torch.equal(weight.values, value * stays)
    for key, tensor in state_of(optimizer, weight).items():
        expected = state[key] * stays
        if "sq" in key or key == "square_avg":
            expected[1, 0] = state[key][0, 1:].mean()
        torch.testing.assert_close(tensor, expected, msg=key)


def test_replace_restarts_a_weight_that_was_removed_and_regrown_if_told(trained):
    topology, weight, optimizer = trained
    topology.enforce(optimizer)
    regrown = torch.zeros(2, 4, dtype=torch.bool)
    regrown[0, 2] = True
    untouched = weight.values[0, 1].clone()
    topology.replace("w", weight.mask.clone(), optimizer, regrown)
    assert weight.values[0, 2] == 0
    assert weight.values[0, 1] == untouched
    for key, tensor in state_of(optimizer, weight).items():
        assert (tensor[0, 2] == 0) == ("sq" not in key), key


@masked_only("the mask is a tensor of its own")
def test_a_mask_is_written_in_place(trained):
    topology, weight, optimizer = trained
    mask, stored = weight.mask, topology.state_dict()
    topology.replace("w", ~mask, optimizer)
    assert topology["w"].mask is mask
    topology.load_state_dict(stored)
    assert topology["w"].mask is mask
    assert mask.tolist() == [[True] * 4, [False] * 4]


def test_replace_refuses_another_shape(trained):
    topology, weight, optimizer = trained
    topology.replace("w", ~weight.mask, optimizer)
    assert weight.mask.tolist() == [[False] * 4, [True] * 4]
    with pytest.raises(ValueError, match="must be bool of shape"):
        topology.replace("w", torch.ones(4, 2, dtype=torch.bool), optimizer)
    with pytest.raises(ValueError, match="must be bool of shape"):
        topology.replace("w", torch.ones(2, 4), optimizer)

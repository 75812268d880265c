"""Topology updates of a network whose parameters hold active entries alone."""

import gc
from collections.abc import Callable
from itertools import product

import pytest
import torch
from networks import MODELS, Network, composed
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_rnn.backends.cpu.convert import use_sparse_kernels
from sparse_rnn.optim.averaged_sgd import AveragedSGD
from sparse_rnn.sparsity.optimizer_state import tensors_like
from sparse_rnn.sparsity.topology import SparseTopology

METHODS = ("dsr", "gmp", "rigl", "selfish", "set", "snfs", "st_rnn", "static_er", "static_uniform")
MORE = ("acdc", "chts", "deep_r", "granet_half", "mest", "mest_soft", "top_kast")  # on one model
OPTIMIZERS = ("adam", "adamw", "momentum_sgd", "snt_asgd", "sgd")


@pytest.mark.parametrize(
    ("model", "method"),
    [*product(("stacked_lstm", "rhn"), METHODS), *product(("stacked_lstm",), MORE)],
)
def test_the_same_topology_decisions(model: str, method: str) -> None:
    optimizer = OPTIMIZERS[((*METHODS, *MORE).index(method) + (model == "rhn")) % len(OPTIMIZERS)]
    more = {
        "gmp": ["sparsifier.prune_start=0", "sparsifier.prune_end=1", "sparsifier.update_interval=3"],
        "acdc": ["sparsifier.alternations=2", "sparsifier.prune_end=0.7", "sparsifier.update_interval=1"],
        "deep_r": ["sparsifier.noise=10", "sparsifier.update_interval=3"],
        "top_kast": ["sparsifier.update_interval=3"],
    }
    run = composed(model, *more.get(method, []), method=method, optimizer=optimizer)
    networks = [Network(run, sparse=sparse) for sparse in (False, True)]
    for network in networks:
        if isinstance(network.optimizer, AveragedSGD):
            network.optimizer.start_averaging()
    start = networks[0].masks
    for epoch in range(3):
        losses = [network.train(epochs=4, steps=network.batches) for network in networks]
        assert losses[0] == pytest.approx(losses[1], rel=1e-9), f"epoch {epoch}"
        for name, mask in networks[0].masks.items():
            assert torch.equal(mask, networks[1].masks[name]), f"{name} after epoch {epoch}"
    if not method.startswith("static"):
        assert any(not torch.equal(start[name], mask) for name, mask in networks[0].masks.items())


@pytest.mark.parametrize("model", MODELS)
def test_gradients_of_every_model_grow_the_same_weights(model: str) -> None:
    """With drop-connect and a mixture of softmaxes the dense gradient is not that of a plain product."""
    networks = [Network(composed(model, method="rigl"), sparse=sparse) for sparse in (False, True)]
    for network in networks:
        network.train(epochs=4, steps=2 * network.batches)
    for name, mask in networks[0].masks.items():
        assert torch.equal(mask, networks[1].masks[name]), name


@pytest.mark.parametrize(("model", "dtype", "tolerance"), [
    ("stacked_lstm", torch.float64, 1e-9),
    ("stacked_lstm", torch.float32, 2e-3),
    ("rhn", torch.float64, 1e-9),
    ("rhn", torch.float32, 2e-3),
])  # fmt: skip
def test_two_hundred_steps_are_the_same_but_for_rounding(model: str, dtype: torch.dtype, tolerance: float) -> None:
    run = composed(model, method="selfish", optimizer="snt_asgd")
    masked, sparse = (Network(run, sparse=s, dtype=dtype, batches=50).train(epochs=4) for s in (False, True))
    assert len(masked) == 200
    assert masked == pytest.approx(sparse, rel=tolerance)
    assert sum(masked[-20:]) < sum(masked[:20])


def moving(optimizer: Callable[[list[nn.Parameter]], Optimizer]) -> tuple[nn.Module, SparseTopology, Optimizer]:
    """One weight [2, 4], active but in its second and last column, after a step from 1 to 8."""
    model = nn.Sequential(nn.Linear(4, 2, bias=False))
    model[0].weight.data = torch.arange(1.0, 9.0).reshape(2, 4)
    topology = SparseTopology.of(model)
    [weight] = topology
    weight.mask[:, 1::2] = False
    topology.mask_weights()
    made = optimizer(list(model.parameters()))
    use_sparse_kernels(model, topology)
    if isinstance(made, AveragedSGD):
        made.start_averaging()
    weight.parameter.grad = weight.storage.stored(torch.arange(10.0, 18.0).reshape(2, 4))
    made.step()
    return model, topology, made


def dense(topology: SparseTopology, tensor: Tensor) -> list[float]:
    return [round(value, 4) for value in next(iter(topology)).storage.dense(tensor.detach()).flatten().tolist()]


AFTER = torch.tensor([[True, True, False, False], [True, False, True, True]])  # 1 and 7 are new, 2 is gone
REGROWN = torch.zeros(2, 4, dtype=torch.bool).index_put_((torch.tensor(1), torch.tensor(2)), torch.tensor(True))


def test_momentum_and_values_stay_with_their_entries() -> None:
    _, topology, optimizer = moving(lambda p: torch.optim.SGD(p, 0.1, momentum=0.9))
    [weight] = topology
    assert dense(topology, weight.parameter) == [0.0, 0, 1.8, 0, 3.6, 0, 5.4, 0]
    topology.replace(weight.name, AFTER, optimizer)
    assert torch.equal(weight.mask, AFTER)
    assert weight.parameter.grad is None
    assert dense(topology, weight.parameter) == [0.0, 0, 0, 0, 3.6, 0, 5.4, 0]
    assert dense(topology, tensors_like(optimizer, weight.parameter)["momentum_buffer"]) == [10, 0, 0, 0, 14, 0, 16, 0]


def test_an_entry_that_was_removed_and_regrown_begins_again() -> None:
    _, topology, optimizer = moving(lambda p: torch.optim.SGD(p, 0.1, momentum=0.9))
    [weight] = topology
    topology.replace(weight.name, AFTER, optimizer, (weight.mask ^ AFTER) | REGROWN)
    assert dense(topology, weight.parameter) == [0.0, 0, 0, 0, 3.6, 0, 0, 0]
    assert dense(topology, tensors_like(optimizer, weight.parameter)["momentum_buffer"]) == [10, 0, 0, 0, 14, 0, 0, 0]


def test_a_weight_that_grows_while_the_last_graph_is_alive() -> None:
    model, topology, optimizer = moving(lambda p: torch.optim.SGD(p, 0.1))
    [weight] = topology
    losses = []
    for mask in (AFTER, torch.ones(2, 4, dtype=torch.bool)):
        optimizer.zero_grad()
        losses.append(model(torch.ones(3, 4)).sum())
        losses[-1].backward()
        assert weight.parameter.grad is not None
        assert weight.parameter.grad.tolist() == [3.0] * weight.active
        topology.replace(weight.name, mask, optimizer)


def test_second_moments_of_new_entries_begin_at_the_mean_of_the_others() -> None:
    _, topology, optimizer = moving(lambda p: torch.optim.Adam(p, 0.1, (0.5, 0.9)))
    [weight] = topology
    topology.replace(weight.name, AFTER, optimizer)
    state = tensors_like(optimizer, weight.parameter)
    assert dense(topology, state["exp_avg"]) == [5, 0, 0, 0, 7, 0, 8, 0]
    mean = round((10 + 19.6 + 25.6) / 3, 4)
    assert dense(topology, state["exp_avg_sq"]) == [10, mean, 0, 0, 19.6, 0, 25.6, mean]


def test_sums_of_averages_stay_with_their_entries() -> None:
    _, topology, optimizer = moving(lambda p: AveragedSGD(p, 0.1))
    [weight] = topology
    topology.replace(weight.name, AFTER, optimizer)
    [average] = optimizer._averages
    assert dense(topology, average.total) == [0.0, 0, 0, 0, 3.6, 0, 5.4, 0]
    assert dense(topology, average.since) == [0, 1, 0, 0, 0, 0, 0, 1]
    weight.parameter.grad = weight.storage.stored(torch.full((2, 4), -10.0))
    optimizer.step()  # to 1, 1; 4.6, 6.4 and 1
    topology.replace(weight.name, torch.ones(2, 4, dtype=torch.bool), optimizer)
    assert dense(topology, average.since) == [0, 1, 2, 2, 0, 2, 0, 1]
    weight.parameter.grad = torch.zeros_like(weight.parameter)
    optimizer.step()
    with optimizer.averaged():
        assert dense(topology, weight.parameter) == pytest.approx([2 / 3, 1, 0, 0, 12.8 / 3, 0, 18.2 / 3, 1], abs=1e-4)


@pytest.mark.parametrize("method", ["selfish", "rigl"])
def test_no_dense_tensor_is_left_behind_an_update(method: str) -> None:
    run = composed("stacked_lstm", "model.hidden=37", method=method, optimizer="snt_asgd")
    before = {id(each) for each in tensors_alive()}
    network = Network(run, sparse=True)
    network.optimizer.start_averaging()
    network.train(epochs=2, steps=network.batches)
    network.model.zero_grad(set_to_none=True)
    sizes = {weight.size for weight in network.topology}
    gc.collect()
    alive = [each for each in tensors_alive() if id(each) not in before]
    assert not [tuple(each.shape) for each in alive if each.numel() in sizes or each.numel() > max(sizes)]
    assert len(alive) > 4 * len(network.topology)


def tensors_alive() -> list[Tensor]:
    return [each for each in gc.get_objects() if type(each) in (Tensor, nn.Parameter)]


def test_a_gradient_that_nobody_watched_is_missed() -> None:
    network = Network(composed("stacked_lstm", method="rigl"), sparse=True)
    torch.autograd.backward(network.loss())
    with pytest.raises(RuntimeError, match="before_backward"):
        network.sparsifier.before_step(network.clock(network.batches, epochs=2))

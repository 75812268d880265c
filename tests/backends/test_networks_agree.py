"""A network computes the same with masked dense weights and with active entries alone."""

import pytest
import torch
from networks import BATCH, LENGTH, MODELS, WORDS, Network, composed
from torch import Tensor

from sparse_rnn.backends.cpu.convert import use_sparse_kernels
from sparse_rnn.backends.cpu.modules import SparseLinear
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.models.layers import mixture as mixture_of_softmaxes
from sparse_rnn.sparsity.topology import SparseTopology

TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}
PARTLY_DENSE = (
    ("stacked_lstm", "lstm.weight_hh_l0"),
    ("stacked_lstm", "embedding.weight,decoder.weight,lstm.weight_ih_l1"),
    ("rhn", "highway.recurrent.0.weight"),
    ("rhn", "highway.recurrent.*"),
    ("rhn", "embedding.weight"),
    ("on_lstm", "layers.0.recurrent.weight"),
    ("on_lstm", "*.input.weight"),
    ("awd_lstm_mos", "embedding.weight,lstm.1.weight_hh_l0"),
    ("lstm_classifier", "lstm.weight_ih_l0,decoder.weight"),
)


def assert_near(one: Tensor, other: Tensor, what: str) -> None:
    scale = float(one.detach().abs().max())
    difference = float((one - other).detach().abs().max())
    assert difference <= TOLERANCE[one.dtype] * scale, what


def both(model: str, *overrides: str, dtype: torch.dtype) -> list[Network]:
    run = composed(model, *overrides)
    return [Network(run, sparse=sparse, dtype=dtype) for sparse in (False, True)]


def backward(network: Network) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """The loss, the gradients of what is active, and the dense ones."""
    network.topology.watch_gradients()
    loss = network.loss() + 0.5 * network.loss(1)  # the gradients of two passes add up
    torch.autograd.backward(loss)
    gradients = network.dense({name: p.grad for name, p in network.model.named_parameters()})
    return loss, gradients, {name: each.form() for name, each in network.topology.gradients().items()}


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("model", MODELS)
def test_loss_and_gradients_in_training(model: str, dtype: torch.dtype) -> None:
    masked, sparse = (backward(network) for network in both(model, dtype=dtype))
    assert_near(masked[0], sparse[0], "loss")
    for kind, ours, theirs in zip(("gradient", "dense gradient"), masked[1:], sparse[1:], strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            assert_near(ours[name], theirs[name], f"{kind} of {name}")


def test_a_mixture_of_softmaxes_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    networks = both("awd_lstm_mos", dtype=torch.float64)
    whole = [backward(network) for network in networks]
    monkeypatch.setattr(mixture_of_softmaxes, "LOGITS_BYTES", 4 * 8 * WORDS * networks[0].run.model.experts)
    for network in networks:
        network.model.zero_grad()
        loss, gradients, dense = backward(network)
        assert_near(whole[0][0], loss, "loss")
        for ours, theirs in zip(whole[0][1:], (gradients, dense), strict=True):
            for name in ours:
                assert_near(ours[name], theirs[name], name)


@pytest.mark.parametrize(("model", "kept"), PARTLY_DENSE)
def test_with_some_weights_kept_dense(model: str, kept: str) -> None:
    networks = both(model, f"sparsifier.keep_dense=[{kept}]", dtype=torch.float64)
    masked, sparse = (backward(network) for network in networks)
    assert_near(masked[0], sparse[0], "loss")
    for name in masked[1]:
        assert_near(masked[1][name], sparse[1][name], name)
    one, other = (
        {name: parameter.shape for name, parameter in network.model.named_parameters() if name not in network.masks}
        for network in networks
    )
    assert one == other


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("model", MODELS)
def test_evaluation_and_hidden_states(model: str, dtype: torch.dtype) -> None:
    tokens = torch.randint(WORDS, (LENGTH, BATCH), generator=torch.Generator().manual_seed(2))
    results = []
    for network in both(model, dtype=dtype):
        net = network.model.eval()
        start = () if model == "lstm_classifier" else (net.initial_hidden(BATCH),)
        states = net.layer_states(tokens, *start)
        output = net(tokens, *start)
        results.append((torch.utils._pytree.tree_leaves(output), torch.utils._pytree.tree_leaves(states)))
    for ours, theirs in zip(*results, strict=True):
        for one, other in zip(ours, theirs, strict=True):
            assert one.shape == other.shape
            assert_near(one, other, "state")


@pytest.mark.parametrize("model", MODELS)
def test_names_and_parameter_objects_stay(model: str) -> None:
    network = Network(composed(model), sparse=False)
    before = dict(network.model.named_parameters())
    keys = list(network.model.state_dict())
    use_sparse_kernels(network.model, network.topology)
    after = dict(network.model.named_parameters())
    assert list(after) == list(before)
    assert list(network.model.state_dict()) == keys
    assert all(after[name] is before[name] for name in before)
    assert all(weight.parameter.shape == (weight.active,) for weight in network.topology)
    assert not [module for module in network.model.modules() if type(module) in (torch.nn.Linear, torch.nn.Embedding)]


def test_what_the_kernels_do_not_know_is_refused_and_left_as_it_was() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.LSTM(4, 5, proj_size=2))
    topology = SparseTopology.of(model)
    with pytest.raises(
        ConfigError, match=r"do not support the module that uses 1\.weight_hh_l0, 1\.weight_hr_l0, 1\.weight_ih_l0"
    ):
        use_sparse_kernels(model, topology)
    assert type(model[0]) is torch.nn.Linear
    assert topology["0.weight"].parameter.shape == (4, 3)
    use_sparse_kernels(model, SparseTopology.of(model, keep_dense=["1.*"]))
    assert type(model[0]) is SparseLinear

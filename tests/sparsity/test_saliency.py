"""Pruning at initialisation: scores by hand, and the topology that follows from them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor, nn

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.corpus import Corpus
from sparse_rnn.sparsity import saliency
from sparse_rnn.sparsity.groups import Group, whole_of
from sparse_rnn.sparsity.method import make_topology
from sparse_rnn.sparsity.named_methods import composed_method
from sparse_rnn.sparsity.topology import SparseTopology, SparseWeight
from sparse_rnn.training.assembly import load_data, make_optimizer, make_sparsifier, make_task
from sparse_rnn.training.initial_scores import MINIBATCHES, Untrained, initial_scores

SCORED = ("snip", "grasp", "synflow")


@dataclass
class Chain:
    """A linear chain of matrices, whose loss is quadratic in each weight."""

    matrices: Mapping[str, Tensor]
    whole: Group = field(init=False)
    weights: dict[str, Tensor] = field(init=False)

    def __post_init__(self) -> None:
        made = [
            SparseWeight(
                name,
                nn.Parameter(matrix.clone()),
                torch.ones_like(matrix, dtype=torch.bool),
                {"all": slice(0, len(matrix))},
                None,
            )
            for name, matrix in self.matrices.items()
        ]
        self.whole = whole_of(SparseTopology(made))
        self.weights = {weight.name: weight.parameter.data for weight in made}

    def output(self, weights: Mapping[str, Tensor]) -> Tensor:
        x = torch.ones(next(iter(weights.values())).shape[1])
        for weight in weights.values():
            x = weight @ x
        return x

    def loss_gradients(self) -> dict[str, Tensor]:
        own = {name: weight.clone().requires_grad_() for name, weight in self.weights.items()}
        with torch.enable_grad():
            loss = self.output(own).square().sum() / 2
        return dict(zip(own, torch.autograd.grad(loss, list(own.values())), strict=True))

    def flow_gradients(self) -> dict[str, Tensor]:
        own = {name: weight.abs().requires_grad_() for name, weight in self.weights.items()}
        with torch.enable_grad():
            flow = self.output(own).sum()
        return dict(zip(own, torch.autograd.grad(flow, list(own.values())), strict=True))


def test_snip_by_hand() -> None:
    """y = (1 + 2, -1 + 3) = (3, 2); the gradient of a row's weights is its output, and the input is ones."""
    scores = saliency.snip(Chain({"w": torch.tensor([[1.0, 2.0], [-1.0, 3.0]])}), 2)
    assert scores["w"].tolist() == [[3.0, 6.0], [2.0, 6.0]]


def test_grasp_by_hand() -> None:
    """The Hessian of a row is all ones: H g is twice the row's output, so w H g = w * 2 y."""
    scores = saliency.grasp(Chain({"w": torch.tensor([[1.0, 2.0], [-1.0, 3.0]])}), 2)
    torch.testing.assert_close(scores["w"], torch.tensor([[6.0, 12.0], [-4.0, 12.0]]), atol=1e-4, rtol=1e-4)


def test_synflow_by_hand(monkeypatch) -> None:
    """|W1| 1 = (3, 4); a path's score is the product of its magnitudes, a weight's the sum over its paths."""
    monkeypatch.setattr(saliency, "ROUNDS", 1)
    chain = Chain({"w1": torch.tensor([[1.0, -2.0], [1.0, 3.0]]), "w2": torch.tensor([[-5.0, 1.0]])})
    scores = saliency.synflow(chain, 6)
    assert scores["w1"].tolist() == [[5.0, 10.0], [1.0, 3.0]]
    assert scores["w2"].tolist() == [[15.0, 4.0]]
    kept_two = saliency.synflow(chain, 2)
    assert kept_two["w1"].tolist() == [[-1.0, 10.0], [-1.0, -1.0]]
    assert kept_two["w2"].tolist() == [[15.0, -1.0]]


def test_in_many_rounds_synflow_keeps_every_layer(monkeypatch) -> None:
    """Tanaka et al. 2020: in one round a wide layer loses all its weights, and with it the network its flow."""
    made = torch.Generator().manual_seed(1)
    sizes = {"in": (60, 8), "wide": (60, 60), "out": (2, 60)}
    chain = Chain({name: torch.randn(*size, generator=made) for name, size in sizes.items()})
    begin = {name: weight.clone() for name, weight in chain.weights.items()}

    def layers(kept: int) -> set[str]:
        scores = saliency.synflow(chain, kept)
        assert sum(int((score >= 0).sum()) for score in scores.values()) == kept
        return {name for name, score in scores.items() if (score >= 0).any()}

    assert layers(12) == set(sizes)
    assert all(torch.equal(chain.weights[name], begin[name]) for name in begin)
    monkeypatch.setattr(saliency, "ROUNDS", 1)
    assert layers(12) < set(sizes)


def untrained(*overrides: str, double: bool = False):
    run = compose_run(["dataset=pydoc", "budget=smoke", "model.hidden=8", *overrides])
    data = load_data(run)
    torch.manual_seed(1)
    model = run.model.build(*data.sizes)
    model = model.double() if double else model
    topology = make_topology(run.sparsifier, model)
    return run, model, make_task(run, data, model, torch.device("cpu")), topology, data


@pytest.mark.parametrize("method", SCORED)
def test_the_topology_has_the_largest_scores_and_scoring_leaves_no_trace(method) -> None:
    run, model, task, topology, _ = untrained(f"sparsifier={method}", "sparsifier.sparsity=0.9")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    scores = initial_scores(run, model, task, topology)
    assert scores is not None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    sparsifier = make_sparsifier(run, topology, make_optimizer(run, model), scores)
    whole = whole_of(topology)
    assert topology.active == round(0.1 * topology.size)
    assert sparsifier.sparsity == pytest.approx(0.9, abs=1e-4)
    active, found = whole.active, whole.gather(scores)
    assert found[active].min() >= found[~active].max()
    again = initial_scores(*untrained(f"sparsifier={method}", "sparsifier.sparsity=0.9")[:4])
    assert all(torch.equal(scores[name], again[name]) for name in scores)


def test_the_mean_gradient_is_that_of_the_first_minibatches_without_dropout() -> None:
    run, model, task, topology, data = untrained("sparsifier=snip", "model.dropout=0.5")
    assert isinstance(data, Corpus)
    found = Untrained(run, model, task, topology).loss_gradients()
    model.eval()
    hidden, total = model.initial_hidden(task.config.batch), torch.zeros(())
    for batch in list(task.batches(0).after(0))[:MINIBATCHES]:
        output, hidden = model(batch.inputs, [part.detach() for part in hidden])
        total = total + model.loss(output, batch.targets) / MINIBATCHES
    total.backward()
    for weight in topology:
        torch.testing.assert_close(found[weight.name], weight.parameter.grad, atol=1e-7, rtol=1e-4)


def test_the_difference_quotient_is_the_product_of_hessian_and_gradient(monkeypatch) -> None:
    """Against torch's second derivatives, in float64; of one minibatch, since a carried state has no gradient."""
    run, model, task, topology, _ = untrained("sparsifier=grasp", "model.dropout=0", double=True)
    monkeypatch.setattr(saliency, "STEP", 1e-4)
    monkeypatch.setattr("sparse_rnn.training.initial_scores.MINIBATCHES", 1)
    with torch.no_grad():
        scores = saliency.grasp(Untrained(run, model, task, topology), 1)
    parameters = [weight.parameter for weight in topology]
    batch = next(task.batches(0).after(0))
    output, _ = model(batch.inputs, model.initial_hidden(task.config.batch))
    total = model.loss(output, batch.targets)
    gradients = torch.autograd.grad(total, parameters, create_graph=True)
    product = sum((gradient * gradient.detach()).sum() for gradient in gradients)
    for weight, exact in zip(topology, torch.autograd.grad(product, parameters), strict=True):
        torch.testing.assert_close(scores[weight.name], weight.parameter.detach() * exact, atol=1e-9, rtol=1e-3)


@pytest.mark.parametrize(
    ("model", "data"),
    [("stacked_lstm", "pydoc"), ("awd_lstm_mos", "pydoc"), ("on_lstm", "pydoc"), ("lstm_classifier", "pydoc_topics")],
)
def test_the_flow_reads_every_token_once(model, data) -> None:
    run = compose_run([f"model={model}", f"dataset={data}", "budget=smoke"])
    made = run.model.build(*run.dataset.load().sizes)
    tokens = made.every_token(7)
    assert tokens.shape[0] <= 7
    assert set(tokens.flatten().tolist()) == set(range(run.dataset.load().sizes[0]))
    torch.autograd.backward(made.flow(7))
    assert all(parameter.grad is not None for parameter in made.parameters())


def test_sparsify_says_that_it_sees_no_minibatches() -> None:
    with pytest.raises(ConfigError, match="method=snip scores the network on minibatches"):
        composed_method("snip", None, {})

"""The co-activation of a weight's two ends: worked out by hand, and by plain loops over tokens and units."""

import pytest
import torch
from coactivation_loops import coactivation, loop
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.models.base import Decoder
from sparse_rnn.models.layers.highway import HighwayRecurrence
from sparse_rnn.models.layers.lstm import LSTM
from sparse_rnn.models.layers.ordered_neurons import ONLSTMLayer, gate_rows
from sparse_rnn.sparsity.coactivation import Coactivation
from sparse_rnn.sparsity.topology import SparseTopology

HIDDEN, INPUTS, STEPS, BATCH = 3, 2, 4, 2


def with_weight(module: nn.Module, **values: list[list[float]]) -> nn.Module:
    for name, value in values.items():
        getattr(module, name).data = torch.tensor(value)
    return module


def test_a_linear_layer() -> None:
    """Two tokens: x = (1, 2) gives y = (1, 4, 3), x = (3, -1) gives y = (3, -2, 2)."""
    linear = with_weight(nn.Linear(2, 3, bias=False), weight=[[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]])
    found = coactivation(linear, lambda: linear(torch.tensor([[1.0, 2.0], [3.0, -1.0]])))
    assert found["weight"].tolist() == [[5.0, -0.5], [-1.0, 5.0], [4.5, 2.0]]


def test_an_embedding() -> None:
    """Of four tokens two are word 0 and one is word 2; the entry that is zero has no co-activation."""
    embedding = with_weight(nn.Embedding(3, 2), weight=[[1.0, 0.0], [3.0, 4.0], [5.0, 6.0]])
    found = coactivation(embedding, lambda: embedding(torch.tensor([[0, 2], [0, 0]])))
    assert found["weight"].tolist() == [[0.75, 0.0], [0.0, 0.0], [1.25, 1.5]]


def test_a_recurrent_layer() -> None:
    """x = 1, 3 and no state before give h = 2, 7 with weights 2 and .5: (2 1 + 7 3) / 2 and (2 0 + 7 2) / 2."""
    weights = {"weight_ih_l0": [[2.0]], "weight_hh_l0": [[0.5]]}
    rnn = with_weight(nn.RNN(1, 1, bias=False, nonlinearity="relu"), **weights)
    found = coactivation(rnn, lambda: rnn(torch.tensor([[[1.0]], [[3.0]]])))
    assert found["weight_ih_l0"].tolist() == [[11.5]]
    assert found["weight_hh_l0"].tolist() == [[7.0]]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.decoder = nn.Embedding(3, 2), nn.Linear(2, 3, bias=False)
        self.decoder.weight = with_weight(self.embedding, weight=[[1.0, 0.0], [3.0, 4.0], [5.0, 6.0]]).weight

    def forward(self, tokens: Tensor) -> Tensor:
        return self.decoder(self.embedding(tokens))


def test_the_uses_of_a_tied_weight_add_up() -> None:
    """Word 1 twice: the embedding gives (3, 4) to row 1, and the decoder reads it and gives (3, 25, 39)."""
    tied = Tied()
    found = coactivation(tied, lambda: tied(torch.tensor([1, 1])))
    assert found["embedding.weight"].tolist() == [[9.0, 12.0], [75.0 + 3.0, 100.0 + 4.0], [117.0, 156.0]]


def test_the_lstm_of_the_models_layer_by_layer() -> None:
    """Called layer by layer or as a whole, and with DropConnect: the weight is that of the model, not its copy."""
    ours, torch_s = LSTM(INPUTS, HIDDEN, 2).double(), nn.LSTM(INPUTS, HIDDEN, 2).double()
    torch_s.load_state_dict(ours.state_dict())
    x = torch.randn(STEPS, BATCH, INPUTS, dtype=torch.float64)
    expected = coactivation(torch_s, lambda: torch_s(x))
    zeros = x.new_zeros(1, BATCH, HIDDEN)
    for use in (lambda: ours(x), lambda: ours.run_layer(1, ours.run_layer(0, x, (zeros, zeros))[0], (zeros, zeros))):
        found = coactivation(ours, use)
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value)
    dropped = coactivation(ours, lambda: ours(x) and ours.run_layer(0, x, (zeros, zeros), drop=0.5))
    assert dropped.keys() == expected.keys()


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_the_highway_s_depths(dropout: float) -> None:
    """Each depth reads the state before it, with the window's dropout mask, and gives the state after it."""
    highway = HighwayRecurrence(HIDDEN, 2, dropout).double()
    x, state = torch.randn(STEPS, BATCH, HIDDEN, dtype=torch.float64), torch.randn(BATCH, HIDDEN, dtype=torch.float64)
    torch.manual_seed(2)
    found = coactivation(highway, lambda: highway(x, state))
    torch.manual_seed(2)
    mask = torch.empty_like(state).bernoulli_(1 - dropout).div_(1 - dropout) if dropout else torch.ones_like(state)
    uses = {name: [] for name in found}
    for own in x:
        for k, layer in enumerate(highway.recurrent):
            read = state * mask
            h, t = (layer(read) + (0 if k else highway.input(own))).detach().chunk(2, dim=1)
            after = torch.lerp(state, h.tanh(), t.sigmoid())
            uses[f"recurrent.{k}.weight"] += list(zip(read, after, strict=True))
            if not k:
                uses["input.weight"] += list(zip(own, after, strict=True))
            state = after
    for name, pairs in uses.items():
        torch.testing.assert_close(found[name], loop(pairs).repeat(2, 1))


def test_ordered_neurons() -> None:
    """A row of a gate has its unit's state, a row of a master gate the mean of its chunk's."""
    layer = ONLSTMLayer(INPUTS, 4, 2, 0.5).double()
    x = torch.randn(STEPS, BATCH, INPUTS, dtype=torch.float64)
    h, c = (torch.randn(BATCH, 4, dtype=torch.float64) for _ in range(2))
    states = []
    found = coactivation(layer, lambda: states.append(layer(x, (h, c), True)[0].detach()))
    before = torch.cat([h[None], states[0][:-1]])
    for name, read in (("input.weight", x), ("recurrent.weight", before)):
        by_unit = loop(list(zip(read.flatten(0, 1), states[0].flatten(0, 1), strict=True)))
        for gate, rows in gate_rows(4, 2).items():
            expected = by_unit.unflatten(0, (2, 2)).mean(1) if gate.startswith("master") else by_unit
            torch.testing.assert_close(found[name][rows], expected)


def test_the_decoder_of_a_mixture(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its logits are never formed at once; here those of two rows are."""
    monkeypatch.setattr("sparse_rnn.models.base.LOGITS_BYTES", 2 * 5 * 8)
    decoder = Decoder(INPUTS, 5).double()
    z = torch.randn(3, 2, INPUTS, dtype=torch.float64)
    prior = torch.log_softmax(torch.randn(3, 2, dtype=torch.float64), dim=1)
    found = coactivation(decoder, lambda: decoder.mixture_cross_entropy(z, prior, torch.tensor([0, 1, 4])))
    rows = z.flatten(0, 1)
    torch.testing.assert_close(found["weight"], loop(list(zip(rows, decoder(rows).detach(), strict=True))))
    plain = coactivation(decoder, lambda: decoder.cross_entropy(rows, torch.zeros(6, dtype=torch.int64)))
    torch.testing.assert_close(plain["weight"], found["weight"])


def test_calls_of_one_step_are_one_minibatch() -> None:
    """As with accumulated gradients, and with the parts of a batch."""
    linear, x = nn.Linear(2, 3), torch.randn(6, 2)
    together = coactivation(linear, lambda: linear(x))
    in_parts = coactivation(linear, lambda: [linear(x[:2]), linear(x[2:])])
    torch.testing.assert_close(in_parts["weight"], together["weight"])


def test_passes_without_gradients_do_not_count() -> None:
    """Neither an evaluation nor the first pass of a checkpointed layer, which is computed again."""
    linear, x = nn.Linear(2, 3), torch.randn(6, 2, requires_grad=True)

    def use() -> None:
        with torch.no_grad():
            linear(10 * x)
        checkpoint(linear, x, use_reentrant=True).sum().backward()

    torch.testing.assert_close(coactivation(linear, use)["weight"], coactivation(linear, lambda: linear(x))["weight"])


def test_products_are_summed_in_the_precision_of_the_weight() -> None:
    linear, x = nn.Linear(64, 8), torch.randn(512, 64)
    exact = coactivation(linear, lambda: linear(x))["weight"]

    def use() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert linear(x).dtype == torch.bfloat16

    found = coactivation(linear, use)["weight"]
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, rtol=0, atol=2e-3)  # in bfloat16, the sums would be wrong by some .05


def test_weights_that_stay_dense_are_not_looked_at() -> None:
    model = nn.Sequential(nn.Linear(2, 3), nn.Conv1d(1, 1, 2), nn.Linear(2, 2))
    found = coactivation(model, lambda: model(torch.randn(5, 1, 2)), keep_dense=["0.weight", "1.weight"])
    assert found.keys() == {"2.weight"}


class Functional(nn.Linear):
    """Has the forward pass of nn.Linear, but is never called."""


class Own(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(2, 2))


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (nn.Sequential(nn.Linear(2, 2), nn.Conv1d(2, 2, 1)), "1.weight"),
        (nn.MultiheadAttention(4, 2), "in_proj_weight"),
        (nn.LSTM(3, 4, proj_size=2), "weight_ih_l0, weight_hh_l0, weight_hr_l0"),
        (nn.EmbeddingBag(3, 2), "weight"),
        (nn.Bilinear(2, 2, 2), "weight"),
        (Own(), "weight"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_what_cannot_be_had_is_refused(model: nn.Module, names: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Coactivation(SparseTopology.of(model))
    assert str(refused.value).startswith(f"The activations of {names} cannot be had, since only nn.Linear, ")
    assert str(refused.value).count(".") - str(refused.value).count("nn.") - names.count(".") == 1


def test_a_module_that_is_not_called_is_noticed_in_the_step() -> None:
    layer = Functional(2, 2)
    with pytest.raises(ConfigError, match=r"^The activations of weight were not seen in this step: .*keep_dense\.$"):
        coactivation(layer, lambda: nn.functional.linear(torch.randn(3, 2), layer.weight))
    assert not layer._forward_hooks


def test_modules_are_left_as_they_were() -> None:
    model = nn.ModuleList([LSTM(2, 3), nn.GRU(2, 3), Decoder(3, 4), HighwayRecurrence(3, 2, 0.0)])
    before = [dict(module.__dict__) for module in model.modules()]
    seen = Coactivation(SparseTopology.of(model))
    assert [dict(module.__dict__) for module in model.modules()] == before
    seen.watch()
    assert model[0].activation_listener is not None
    assert model[1]._forward_hooks
    assert not any(layer._forward_hooks for layer in model[3].modules()), "it shows the weights inside it itself"
    seen.stop()
    assert [dict(module.__dict__) for module in model.modules()] == before

"""RHN and ON-LSTM under autocast: products in bfloat16, all else and all gradients in float32."""

import pytest
import torch
from torch import Tensor

from sparse_rnn.models.base import LanguageModel
from sparse_rnn.models.layers.highway import HighwayRecurrence
from sparse_rnn.models.layers.lstm import LSTM, WEIGHTS, lstm_of_dtype
from sparse_rnn.models.layers.ordered_neurons import ONLSTMLayer
from sparse_rnn.models.layers.precision import product_dtype
from sparse_rnn.models.on_lstm import ONLSTMConfig
from sparse_rnn.models.rhn import RHNConfig

WIDTH, STEPS, BATCH, WORDS = 24, 6, 4, 13


def low(*, on: bool) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=on)


def highway(p: float):
    layer = HighwayRecurrence(WIDTH, 3, p)
    return layer, lambda x, state, _: layer(x, state)


def ordered(p: float):
    layer = ONLSTMLayer(WIDTH, WIDTH, 4, p)

    def run(x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        states, (_, cell) = layer(x, (h, c), training=True)
        return states, cell

    return layer, run


def relative(one: Tensor, other: Tensor) -> float:
    return float(((one - other).norm() / other.norm()).detach())


@pytest.mark.parametrize("p", [0.0, 0.4])
@pytest.mark.parametrize("made", [highway, ordered])
def test_a_window(made, p):
    def results(*, on: bool) -> list[Tensor]:
        torch.manual_seed(3)
        layer, run = made(p)
        x, h, c = torch.randn(STEPS, BATCH, WIDTH), torch.randn(BATCH, WIDTH), torch.randn(BATCH, WIDTH)
        given = [tensor.requires_grad_() for tensor in (x, h, c)]
        with low(on=on):
            found = run(*given)
        sum(part.square().sum() for part in found).backward()
        return [*found, *(leaf.grad for leaf in (*given, *layer.parameters()) if leaf.grad is not None)]

    exact, rounded = results(on=False), results(on=True)
    assert len(exact) == len(rounded) >= 8
    for one, other in zip(rounded, exact, strict=True):
        assert one.dtype == torch.float32
        assert 1e-4 < relative(one, other) < 2e-2
    assert all(map(torch.equal, results(on=False), exact))


@pytest.mark.parametrize(
    "config", [RHNConfig(hidden=WIDTH, depth=3), ONLSTMConfig(embedding=12, hidden=WIDTH, chunk=4)]
)
def test_the_loss_of_a_model(config):
    def loss_and_gradients(*, on: bool) -> tuple[Tensor, list[Tensor]]:
        torch.manual_seed(3)
        model: LanguageModel = config.build(WORDS)
        tokens = torch.randint(WORDS, (STEPS, BATCH))
        with low(on=on):
            loss, _, _ = model.training_loss(tokens, tokens.flip(0), model.initial_hidden(BATCH))
        torch.autograd.backward(loss)
        return loss, [parameter.grad for parameter in model.parameters()]

    (exact, expected), (rounded, gradients) = loss_and_gradients(on=False), loss_and_gradients(on=True)
    torch.testing.assert_close(rounded.float(), exact, rtol=5e-3, atol=0)
    for one, other in zip(gradients, expected, strict=True):
        assert one.dtype == torch.float32
        assert relative(one, other) < 5e-2


def test_without_gradient_and_in_double():
    torch.manual_seed(3)
    layer, x, state = HighwayRecurrence(WIDTH, 2, 0.0), torch.randn(STEPS, BATCH, WIDTH), torch.randn(BATCH, WIDTH)
    with low(on=True):
        expected, _ = layer(x, state)
        with torch.no_grad():
            assert torch.equal(layer(x, state)[0], expected)
        double = layer.double()(x.double(), state.double())[0]
    assert double.dtype == torch.float64
    assert relative(expected.double(), double) < 1e-2


def test_the_dtype_of_products():
    weight = torch.zeros(1)
    assert product_dtype(weight) == torch.float32
    with low(on=True):
        assert product_dtype(weight) == torch.bfloat16
        assert product_dtype(weight.double()) == torch.float64
        assert product_dtype(weight.to("meta")) == torch.float32


def test_an_lstm_of_a_dtype():
    """As a GPU needs it under autocast: output and state in bfloat16, all gradients in float32, also small ones."""
    torch.manual_seed(3)
    layer, x = LSTM(WIDTH, WIDTH), torch.randn(STEPS, BATCH, WIDTH).requires_grad_()
    state = torch.randn(1, BATCH, WIDTH), torch.randn(1, BATCH, WIDTH)
    weights = [layer.get_parameter(f"{name}_l0") for name in WEIGHTS]
    leaves, factor = [x, *weights], 2.0**-30  # of gradients, which float16 would lose
    exact, rounded = layer.run_layer(0, x, state), lstm_of_dtype(torch.bfloat16, x, state, weights, training=True)
    for ours, theirs in zip((rounded[0], *rounded[1]), (exact[0], *exact[1]), strict=True):
        assert ours.dtype == torch.bfloat16
        assert 1e-4 < relative(ours.float(), theirs) < 2e-2
    ours, theirs = (torch.autograd.grad(part[0].square().sum() * factor, leaves) for part in (rounded, exact))
    for one, other in zip(ours, theirs, strict=True):
        assert one.dtype == torch.float32
        assert 1e-4 < relative(one, other) < 2e-2

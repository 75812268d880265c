"""What the tests of the kernels share: tolerances, sparse weights at random, comparison of gradients."""

import pytest
import torch
from torch import Tensor, nn

from sparse_rnn.backends.cpu.functions.ordered_neurons import on_lstm_layer
from sparse_rnn.backends.cpu.functions.products import Stored, linear
from sparse_rnn.backends.cpu.functions.recurrence import recurrent_layer
from sparse_rnn.backends.cpu.structure import Structure
from sparse_rnn.models.layers.ordered_neurons import ONLSTMLayer

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11}
real = pytest.mark.parametrize("dtype", TOLERANCE, ids=str)


def assert_near(ours: Tensor, theirs: Tensor) -> None:
    scale = float(theirs.detach().abs().max()) if theirs.numel() else 0.0
    assert ours.shape == theirs.shape
    assert bool(((ours - theirs).detach().abs() <= TOLERANCE[ours.dtype] * scale).all())


def leaf(tensor: Tensor) -> Tensor:
    return tensor.detach().clone().requires_grad_()


def masked(weight: nn.Parameter, density: float) -> Stored:
    """Masks a weight at random; the same weight for the kernels."""
    mask = torch.rand_like(weight) < density
    with torch.no_grad():
        weight.mul_(mask)
    structure = Structure(mask)
    return Stored(structure.pack(weight.detach()).requires_grad_(), structure)


def assert_gradients(pairs: list[tuple[Tensor, Tensor]]) -> None:
    for ours, theirs in pairs:
        assert ours.grad is not None
        assert theirs.grad is not None
        assert_near(ours.grad, theirs.grad)


def _torchs(dense: nn.RNNBase, kind: str, x: Tensor, h: Tensor) -> tuple[Tensor, list[Stored]]:
    of_input, recurrent = (masked(dense.get_parameter(f"weight_{of}_l0"), 0.3) for of in ("ih", "hh"))
    biases = dense.get_parameter("bias_ih_l0"), dense.get_parameter("bias_hh_l0")
    state = (h, h) if kind == "lstm" else (h,)
    return recurrent_layer(kind, x, state, (of_input, recurrent), biases)[0], [of_input, recurrent]


def an_lstm(x: Tensor, h: Tensor) -> tuple[Tensor, list[Stored]]:
    return _torchs(nn.LSTM(x.shape[2], h.shape[1]), "lstm", x, h)


def a_gru(x: Tensor, h: Tensor) -> tuple[Tensor, list[Stored]]:
    return _torchs(nn.GRU(x.shape[2], h.shape[1]), "gru", x, h)


def an_rnn(x: Tensor, h: Tensor) -> tuple[Tensor, list[Stored]]:
    return _torchs(nn.RNN(x.shape[2], h.shape[1]), "rnn_tanh", x, h)


def an_on_lstm(x: Tensor, h: Tensor) -> tuple[Tensor, list[Stored]]:
    dense = ONLSTMLayer(x.shape[2], h.shape[1], 7, 0.0)
    weights = [masked(part.weight, 0.3) for part in (dense.input, dense.recurrent)]
    return on_lstm_layer(x, h, h, weights[0], weights[1], dense.input.bias)[0], weights


def a_linear_layer(x: Tensor, h: Tensor) -> tuple[Tensor, list[Stored]]:
    dense = nn.Linear(x.shape[2], h.shape[1])
    stored = masked(dense.weight, 0.3)
    return linear(x, *stored, dense.bias), [stored]

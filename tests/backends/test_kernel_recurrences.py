"""Windows of recurrent layers on the kernels against plain torch, over batches at and between the edges of tiles."""

import math

import pytest
import torch
from kernel_checks import assert_gradients, assert_near, leaf, masked, real
from torch import Tensor, nn

from sparse_rnn.backends.cpu.functions.highway import highway
from sparse_rnn.backends.cpu.functions.ordered_neurons import on_lstm_layer
from sparse_rnn.backends.cpu.functions.products import Stored
from sparse_rnn.backends.cpu.functions.recurrence import recurrent_layer
from sparse_rnn.backends.cpu.structure import Structure
from sparse_rnn.models.layers.highway import HighwayRecurrence
from sparse_rnn.models.layers.ordered_neurons import ONLSTMLayer

WINDOWS = [(20, 7, 40, 56), (3, 4, 10, 7), (80, 3, 30, 33), (1, 1, 8, 150), (130, 2, 9, 1)]
CHUNKED = [
    (20, 7, 40, 8, 7),
    (3, 4, 10, 1, 7),
    (80, 3, 30, 33, 1),
    (1, 1, 8, 15, 10),
    (130, 2, 9, 1, 1),
    (64, 1, 3, 2, 70),
]


@real
@pytest.mark.parametrize(("batch", "steps", "inputs", "chunks", "chunk"), CHUNKED)
def test_an_on_lstm_layer(batch: int, steps: int, inputs: int, chunks: int, chunk: int, dtype: torch.dtype) -> None:
    dense = ONLSTMLayer(inputs, chunks * chunk, chunk, 0.0).to(dtype)
    parts = dense.input, dense.recurrent
    of_input, recurrent = (masked(part.weight, 0.4) for part in parts)
    bias = leaf(dense.input.bias + dense.recurrent.bias)
    x = torch.randn(steps, batch, inputs, dtype=dtype, requires_grad=True)
    h, c = (torch.randn(batch, dense.hidden, dtype=dtype, requires_grad=True) for _ in range(2))
    own = [leaf(tensor) for tensor in (x, h, c)]
    states, (_, cell) = dense(x, (h, c), training=True)
    for stored in (of_input, recurrent):
        stored.structure.watch()
    theirs, ours = (states, cell), on_lstm_layer(*own, of_input, recurrent, bias)
    by = [torch.randn_like(tensor) for tensor in theirs]
    for found in (ours, theirs):
        sum((tensor * weight).sum() for tensor, weight in zip(found, by, strict=True)).backward()  # type: ignore[union-attr]
    for one, other in zip(ours, theirs, strict=True):
        assert_near(one, other)
    assert_gradients([*zip(own, (x, h, c), strict=True), (bias, dense.input.bias)])
    for stored, part in zip((of_input, recurrent), parts, strict=True):
        assert part.weight.grad is not None
        assert stored.values.grad is not None
        assert_near(stored.values.grad, stored.structure.pack(part.weight.grad))
        formed = torch.zeros_like(part.weight)
        for contribution in stored.structure.take_contributions():
            contribution.add_to(formed)
        assert_near(formed, part.weight.grad)


@real
@pytest.mark.parametrize("gate", ["master_input", "master_forget", "output", "cell", "input", "forget"])
@pytest.mark.parametrize("value", [1e4, -1e4, torch.inf, -torch.inf, torch.nan])
def test_an_on_lstm_gate_far_from_zero(value: float, gate: str, dtype: torch.dtype) -> None:
    """Also that what is not finite passes through, wherever it does in torch."""
    dense = ONLSTMLayer(3, 12, 3, 0.0).to(dtype)
    of_input, recurrent = (masked(part.weight, 1.0) for part in (dense.input, dense.recurrent))
    x, state = torch.randn(2, 5, 3, dtype=dtype), tuple(torch.randn(5, 12, dtype=dtype) for _ in range(2))
    with torch.no_grad():
        dense.input.bias[dense.gates()["input.weight"].rows[gate].start + 1] = value
        states, (_, cell) = dense(x, state, training=False)
        ours = on_lstm_layer(x, *state, of_input, recurrent, dense.input.bias + dense.recurrent.bias)
    tolerance = 20 * torch.finfo(dtype).eps
    torch.testing.assert_close(ours, (states, cell), rtol=tolerance, atol=tolerance, equal_nan=True)
    assert not math.isnan(value) or not bool(ours[0][1].isfinite().any())


@pytest.mark.parametrize(
    ("rows", "h", "bias", "message"),
    [
        (30, torch.ones(3, 6), torch.ones(30), "for a batch of 2"),
        (30, torch.ones(2, 6), torch.ones(29), "do not fit"),
        (30, torch.ones(2, 6).double(), torch.ones(30), "expected scalar type"),
        (34, torch.ones(2, 6), torch.ones(34), "do not fit"),  # 5 chunks of 6 units
        (24, torch.ones(2, 6), torch.ones(24), "do not fit"),  # none
    ],
)
def test_an_on_lstm_that_does_not_fit_is_refused(rows: int, h: Tensor, bias: Tensor, message: str) -> None:
    of_input, recurrent = (masked(nn.Linear(columns, rows).weight, 0.5) for columns in (3, 6))
    with pytest.raises((ValueError, RuntimeError), match=message):
        on_lstm_layer(torch.ones(1, 2, 3), h, h, of_input, recurrent, bias)


@real
@pytest.mark.parametrize(("batch", "steps", "depth", "hidden"), WINDOWS)
def test_a_highway(batch: int, steps: int, depth: int, hidden: int, dtype: torch.dtype) -> None:
    dense = HighwayRecurrence(hidden, depth % 4 + 1, 0.0).to(dtype)
    dense.input = nn.Identity()  # type: ignore[assignment]
    layers = [(masked(layer.weight, 0.5), leaf(layer.bias)) for layer in dense.recurrent]  # type: ignore[arg-type]
    projected = torch.randn(steps, batch, 2 * hidden, dtype=dtype, requires_grad=True)
    state, mask = torch.randn(batch, hidden, dtype=dtype, requires_grad=True), torch.rand(batch, hidden, dtype=dtype)
    own = leaf(projected), leaf(state)
    theirs, ours = dense.unroll(projected, state, mask), highway(*own, mask, layers)
    by = [torch.randn_like(tensor) for tensor in theirs]
    for found in (theirs, ours):
        sum((tensor * weight).sum() for tensor, weight in zip(found, by, strict=True)).backward()  # type: ignore[union-attr]
    for one, other in zip(ours, theirs, strict=True):
        assert_near(one, other)
    assert_gradients([(own[0], projected), (own[1], state)])
    for (stored, bias), layer in zip(layers, dense.recurrent, strict=True):
        assert_gradients([(bias, layer.bias)])  # type: ignore[list-item]
        assert stored.values.grad is not None
        assert_near(stored.values.grad, stored.structure.pack(layer.weight.grad))  # type: ignore[arg-type]


@real
def test_activations_far_from_zero_and_near_it(dtype: torch.dtype) -> None:
    b = torch.tensor([-100.0, -20, -9, -1, -1e-3, -1e-6, 0, 1e-7, 1e-2, 0.3, 2, 10, 30, 1e4, torch.inf, torch.nan])
    units, exact = len(b), b.double()
    biases = torch.cat([b, torch.zeros(units), b, b]).to(dtype)
    nothing = Stored(torch.zeros(0, dtype=dtype), Structure(torch.zeros(4 * units, units, dtype=torch.bool)))
    zeros = torch.zeros(3, units, dtype=dtype)
    _, h, c = recurrent_layer("lstm", zeros[None], (zeros, zeros), (nothing, nothing), (biases, None))
    cell = exact.sigmoid() * exact.tanh()
    for ours, theirs in ((c, cell), (h, exact.sigmoid() * cell.tanh())):
        torch.testing.assert_close(
            ours, theirs.to(dtype).expand(3, units), rtol=20 * torch.finfo(dtype).eps, atol=1e-37, equal_nan=True
        )

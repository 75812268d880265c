"""The operators against plain torch, over shapes at and between the edges of tiles, blocks and panels."""

import math
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sparse_rnn.backends.cpu.functions.cross_entropy import linear_cross_entropy
from sparse_rnn.backends.cpu.functions.dropout import dropout
from sparse_rnn.backends.cpu.functions.highway import highway
from sparse_rnn.backends.cpu.functions.lstm import lstm_layer
from sparse_rnn.backends.cpu.functions.ordered_neurons import on_lstm_layer
from sparse_rnn.backends.cpu.functions.products import Stored, embedding, linear
from sparse_rnn.backends.cpu.operators import operators
from sparse_rnn.backends.cpu.structure import Structure
from sparse_rnn.models.layers.highway import HighwayRecurrence
from sparse_rnn.models.layers.ordered_neurons import ONLSTMLayer

TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-11}
WEIGHTS = [
    (7, 5, 0.4, 3),
    (300, 257, 0.3, 65),
    (1, 1, 1.0, 1),
    (64, 1000, 0.05, 20),
    (100, 128, 0.0, 4),
    (130, 300, 1.0, 129),
    (600, 40, 0.05, 70),
]
WINDOWS = [(20, 7, 40, 56), (3, 4, 10, 7), (80, 3, 30, 33), (1, 1, 8, 150), (130, 2, 9, 1)]
CHUNKED = [
    (20, 7, 40, 8, 7),
    (3, 4, 10, 1, 7),
    (80, 3, 30, 33, 1),
    (1, 1, 8, 15, 10),
    (130, 2, 9, 1, 1),
    (64, 1, 3, 2, 70),
]
on_avx2 = pytest.mark.skipif("AVX" not in torch.backends.cpu.get_cpu_capability(), reason="needs a CPU with AVX2")
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


@pytest.mark.parametrize(("rows", "columns", "density"), [shape[:3] for shape in WEIGHTS])
def test_a_structure_holds_every_entry_once(rows: int, columns: int, density: float) -> None:
    mask = torch.rand(rows, columns) < density
    structure = Structure(mask)
    assert torch.equal(structure.mask, mask)
    assert structure.active == int(mask.sum())
    assert torch.equal(structure.positions.sort().values, mask.flatten().nonzero().flatten())
    dense = torch.randn(rows, columns) * mask
    values = structure.pack(dense)
    assert torch.equal(structure.unpack(values), dense)
    transposed, layout = structure.transposed(values)
    places = operators().positions(layout, rows, True)
    assert torch.equal(transposed, dense.flatten()[places])


@real
@pytest.mark.parametrize(("rows", "columns", "density", "batch"), WEIGHTS)
def test_linear_embedding_and_cross_entropy(
    rows: int, columns: int, density: float, batch: int, dtype: torch.dtype
) -> None:
    dense = nn.Linear(columns, rows).to(dtype)
    stored = masked(dense.weight, density)
    bias, x = leaf(dense.bias), torch.randn(batch, columns, dtype=dtype, requires_grad=True)
    ours, targets = leaf(x), torch.randint(rows, (batch,))
    weight = torch.randn(batch, rows, dtype=dtype)
    tokens = torch.randint(rows, (2, 9))
    rest = torch.randn(2, 9, columns, dtype=dtype)
    theirs = (dense(x) * weight).sum() + 3 * nn.functional.cross_entropy(dense(x), targets)
    theirs = theirs + (nn.functional.embedding(tokens, dense.weight) * rest).sum()
    total = (linear(ours, *stored, bias) * weight).sum() + 3 * linear_cross_entropy(ours, *stored, bias, targets)
    total = total + (embedding(tokens, *stored) * rest).sum()
    assert_near(linear(ours, *stored, bias), dense(x))
    theirs.backward()
    total.backward()
    assert_gradients([(ours, x), (bias, dense.bias)])
    assert stored.values.grad is not None
    assert dense.weight.grad is not None
    assert_near(stored.values.grad, stored.structure.pack(dense.weight.grad))


@real
@pytest.mark.parametrize(("batch", "steps", "inputs", "hidden"), WINDOWS)
def test_an_lstm_layer(batch: int, steps: int, inputs: int, hidden: int, dtype: torch.dtype) -> None:
    dense = nn.LSTM(inputs, hidden).to(dtype)
    ih, hh = (masked(dense.get_parameter(f"weight_{kind}_l0"), 0.4) for kind in ("ih", "hh"))
    biases = [leaf(dense.get_parameter(f"bias_{kind}_l0")) for kind in ("ih", "hh")]
    x = torch.randn(steps, batch, inputs, dtype=dtype, requires_grad=True)
    h, c = (torch.randn(batch, hidden, dtype=dtype, requires_grad=True) for _ in range(2))
    own = [leaf(tensor) for tensor in (x, h, c)]
    states, last = dense(x, (h[None], c[None]))
    theirs = states, last[0][0], last[1][0]
    hh.structure.watch()
    ours = lstm_layer(*own, ih, hh, *biases)
    by = [torch.randn_like(tensor) for tensor in theirs]
    for found, outputs in ((ours, own), (theirs, [x, h, c])):
        assert len(outputs) == 3
        sum((tensor * weight).sum() for tensor, weight in zip(found, by, strict=True)).backward()  # type: ignore[union-attr]
    for one, other in zip(ours, theirs, strict=True):
        assert_near(one, other)
    assert_gradients(
        [*zip(own, (x, h, c), strict=True), *zip(biases, (dense.bias_ih_l0, dense.bias_hh_l0), strict=True)]
    )
    for kind, stored in (("ih", ih), ("hh", hh)):
        gradient = dense.get_parameter(f"weight_{kind}_l0").grad
        assert gradient is not None
        assert stored.values.grad is not None
        assert_near(stored.values.grad, stored.structure.pack(gradient))
    formed = torch.zeros_like(gradient)
    for factor in hh.structure.take_factors():
        factor.add_to(formed)
    assert_near(formed, gradient)


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
        for factor in stored.structure.take_factors():
            factor.add_to(formed)
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
@pytest.mark.parametrize("p", [0.65, 0.2, 0.9999, 1e-9])
def test_dropout_draws_as_torch_does(p: float, dtype: torch.dtype) -> None:
    x = torch.randn(5, 20, 31, dtype=dtype, requires_grad=True)
    drawn, by = [], torch.randn_like(x)
    for drop in (nn.functional.dropout, dropout):
        torch.manual_seed(3)
        torch.rand(5)
        y = drop(x, p, True)
        drawn.append((y, torch.autograd.grad(y, x, by)[0], torch.get_rng_state()))
    for one, other in zip(*drawn, strict=True):
        assert torch.equal(one, other)
    assert dropout(x, p, False) is x


def test_a_large_vocabulary_loses_no_digits() -> None:
    x, targets = torch.ones(1, 1), torch.tensor([0])
    decoder = nn.Linear(1, 50_000)
    stored = masked(decoder.weight, 1.0)
    with torch.no_grad():
        decoder.bias[7] = 12.0
    exact = nn.functional.cross_entropy(decoder.double()(x.double()), targets)
    loss = linear_cross_entropy(x, *stored, decoder.bias.float(), targets)
    assert float(loss.detach()) == pytest.approx(float(exact.detach()), rel=1e-6)


def test_words_that_cannot_be_change_nothing() -> None:
    x, targets, words = torch.randn(20, 3), torch.randint(200, 300, (20,)), 300
    decoder = nn.Linear(3, words)
    stored = masked(decoder.weight, 0.5)
    with torch.no_grad():
        decoder.bias[:200] = -torch.inf
    by = [leaf(decoder.bias), decoder.bias]
    ours = linear_cross_entropy(x, *stored, by[0], targets)
    theirs = nn.functional.cross_entropy(decoder(x), targets)
    assert_near(ours, theirs)
    for loss in (ours, theirs):
        loss.backward()
    assert_gradients([(by[0], by[1])])


@real
def test_activations_far_from_zero_and_near_it(dtype: torch.dtype) -> None:
    b = torch.tensor([-100.0, -20, -9, -1, -1e-3, -1e-6, 0, 1e-7, 1e-2, 0.3, 2, 10, 30, 1e4, torch.inf, torch.nan])
    units, exact = len(b), b.double()
    biases = torch.cat([b, torch.zeros(units), b, b]).to(dtype)
    nothing = Stored(torch.zeros(0, dtype=dtype), Structure(torch.zeros(4 * units, units, dtype=torch.bool)))
    zeros = torch.zeros(3, units, dtype=dtype)
    _, h, c = lstm_layer(zeros[None], zeros, zeros, nothing, nothing, biases, torch.zeros_like(biases))
    cell = exact.sigmoid() * exact.tanh()
    for ours, theirs in ((c, cell), (h, exact.sigmoid() * cell.tanh())):
        torch.testing.assert_close(
            ours, theirs.to(dtype).expand(3, units), rtol=20 * torch.finfo(dtype).eps, atol=1e-37, equal_nan=True
        )


def test_large_results_share_memory_only_one_after_the_other() -> None:
    mask = torch.ones(2048, 1, dtype=torch.bool)
    structure, x = Structure(mask), operators().pack(torch.ones(1100, 1))

    def product(value: float) -> Tensor:
        result: Tensor = operators().product(x, torch.full((2048,), value), structure.layout, 1)
        return result

    first = product(1.0)
    second = product(2.0)
    assert float(first[0].mean()) == 1
    assert float(second[0].mean()) == 2
    kept, view = first.data_ptr(), first[0, :5]
    del first
    assert product(3.0).data_ptr() != kept
    assert float(view.mean()) == 1
    del view
    assert product(4.0).data_ptr() == kept


def test_training_after_inference() -> None:
    decoder, x, targets = nn.Linear(1, 2048), torch.ones(1100, 1, requires_grad=True), torch.zeros(1100).long()
    stored = masked(decoder.weight, 1.0)
    with torch.inference_mode():
        linear(x, *stored)
    linear_cross_entropy(x, *stored, decoder.bias, targets).backward()
    theirs = leaf(x)
    nn.functional.cross_entropy(decoder(theirs), targets).backward()
    assert_gradients([(x, theirs)])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_passes_through(value: float) -> None:
    stored = Stored(torch.full((1,), value), Structure(torch.tensor([[True, False]])))
    y = linear(torch.ones(3, 2), *stored)
    assert not bool(y.isfinite().any())
    assert not bool(linear_cross_entropy(torch.ones(3, 2), *stored, torch.zeros(1), torch.zeros(3).long()).isfinite())


def test_what_does_not_fit_is_refused() -> None:
    structure = Structure(torch.rand(8, 6) < 0.5)
    values = torch.ones(structure.active, requires_grad=True)
    with pytest.raises(RuntimeError, match="is empty"):
        linear(torch.ones(0, 6), values, structure)
    with pytest.raises(RuntimeError, match="does not fit"):
        linear(torch.ones(2, 5), values, structure)
    with pytest.raises(RuntimeError, match="without entries"):
        Structure(torch.ones(0, 3, dtype=torch.bool))
    with pytest.raises(IndexError):
        embedding(torch.tensor([8]), values, structure)
    with pytest.raises(IndexError):
        linear_cross_entropy(torch.ones(1, 6), values, structure, torch.zeros(8), torch.tensor([-1]))
    y = linear(torch.ones(2, 6, requires_grad=True), values, structure)
    structure.set_mask(torch.ones(8, 6, dtype=torch.bool))
    with pytest.raises(RuntimeError, match="has changed"):
        y.sum().backward()


@pytest.mark.parametrize(
    ("rows", "h", "bias", "message"),
    [
        (30, torch.ones(3, 6), torch.ones(30), "the batch 2 sequences"),
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


def an_lstm(x: Tensor, h: Tensor) -> tuple[Tensor, list[Stored]]:
    dense = nn.LSTM(x.shape[2], h.shape[1])
    weights = [masked(dense.get_parameter(f"weight_{kind}_l0"), 0.3) for kind in ("ih", "hh")]
    return lstm_layer(x, h, h, *weights, dense.bias_ih_l0, dense.bias_hh_l0)[0], weights


def an_on_lstm(x: Tensor, h: Tensor) -> tuple[Tensor, list[Stored]]:
    dense = ONLSTMLayer(x.shape[2], h.shape[1], 7, 0.0)
    weights = [masked(part.weight, 0.3) for part in (dense.input, dense.recurrent)]
    return on_lstm_layer(x, h, h, weights[0], weights[1], dense.input.bias)[0], weights


def a_linear_layer(x: Tensor, h: Tensor) -> tuple[Tensor, list[Stored]]:
    dense = nn.Linear(x.shape[2], h.shape[1])
    stored = masked(dense.weight, 0.3)
    return linear(x, *stored, dense.bias), [stored]


@pytest.mark.parametrize("layer", [a_linear_layer, an_lstm, an_on_lstm])
def test_weights_have_the_same_gradient_whether_or_not_the_input_has_one(
    layer: Callable[[Tensor, Tensor], tuple[Tensor, list[Stored]]],
) -> None:
    x, h, found = torch.randn(9, 20, 150), torch.randn(20, 140), []
    for of_input in (True, False):
        torch.manual_seed(2)
        y, weights = layer(x.clone().requires_grad_(of_input), h)
        found.append(torch.autograd.grad(y.square().sum(), [weight.values for weight in weights]))
    for with_input, alone in zip(*found, strict=True):
        assert float(alone.abs().max()) > 0
        assert_near(with_input, alone)


@pytest.mark.parametrize("layer", [a_linear_layer, an_lstm, an_on_lstm])
@pytest.mark.parametrize("batch", [20, 100])
def test_threads_do_not_change_a_bit(
    layer: Callable[[Tensor, Tensor], tuple[Tensor, list[Stored]]], batch: int
) -> None:
    x, h, found = torch.randn(9, batch, 50, requires_grad=True), torch.randn(batch, 490), []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            torch.manual_seed(2)
            states, weights = layer(x, h)
            with_respect_to = [x, *(weight.values for weight in weights)]
            found.append((states, *torch.autograd.grad(states.square().sum(), with_respect_to)))
    finally:
        torch.set_num_threads(before)
    for one, *others in zip(*found, strict=True):
        assert all(torch.equal(one, other) for other in others)


@pytest.mark.skipif("SPARSE_RNN_KERNEL_FLAGS" in os.environ, reason="it is what that test runs")
@pytest.mark.parametrize("flags", ["", pytest.param("-march=x86-64-v3", marks=on_avx2)])
def test_a_build_with_shorter_vectors_or_none_computes_the_same(flags: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist", __file__]
    environment = os.environ | {"SPARSE_RNN_KERNEL_FLAGS": flags}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
    assert " passed" in done.stdout

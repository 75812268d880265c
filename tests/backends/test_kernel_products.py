"""Structures, products, embeddings, losses and dropout of the kernels against plain torch.

The shapes lie at and between the edges of tiles, blocks and panels.
"""

import pytest
import torch
from kernel_checks import assert_gradients, assert_near, leaf, masked, real
from torch import Tensor, nn

from sparse_rnn.backends.cpu.functions.cross_entropy import linear_cross_entropy
from sparse_rnn.backends.cpu.functions.dropout import dropout
from sparse_rnn.backends.cpu.functions.products import Stored, embedding, linear
from sparse_rnn.backends.cpu.operators import operators
from sparse_rnn.backends.cpu.structure import Structure

WEIGHTS = [
    (7, 5, 0.4, 3),
    (300, 257, 0.3, 65),
    (1, 1, 1.0, 1),
    (64, 1000, 0.05, 20),
    (100, 128, 0.0, 4),
    (130, 300, 1.0, 129),
    (600, 40, 0.05, 70),
]


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

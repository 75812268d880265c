"""What must not change the kernels' results: whether the input has a gradient, and threads."""

from collections.abc import Callable

import pytest
import torch
from kernel_checks import a_gru, a_linear_layer, an_lstm, an_on_lstm, an_rnn, assert_near
from torch import Tensor

from sparse_rnn.backends.cpu.functions.products import Stored, linear
from sparse_rnn.backends.cpu.structure import Structure


@pytest.mark.parametrize("layer", [a_linear_layer, an_lstm, a_gru, an_rnn, an_on_lstm])
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


@pytest.mark.parametrize("layer", [a_linear_layer, an_lstm, a_gru, an_rnn, an_on_lstm])
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


@pytest.mark.parametrize("threads", [8, 9, 16])
def test_a_weight_has_panels_for_every_thread(threads: int) -> None:
    """As many as there are threads or more, of about as many entries; with the same product as one thread computes."""
    mask, x = torch.rand(320, 70) < 0.3, torch.randn(5, 70)
    weight, before = torch.randn(320, 70) * mask, torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        structure = Structure(mask)
        found = linear(x, structure.pack(weight), structure)
    finally:
        torch.set_num_threads(before)
    assert structure.layout[0].numel() - 1 == -(-threads // 8) * 8
    alone = Structure(mask)
    assert torch.equal(found, linear(x, alone.pack(weight), alone))
    assert_near(found, x @ weight.t())

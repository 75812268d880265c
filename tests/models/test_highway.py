"""A window of the highway recurrence against the plain loop that autograd differentiates, in float64."""

import pytest
import torch
from torch import Tensor, nn

from sparse_rnn.models.layers.highway import HighwayRecurrence
from sparse_rnn.models.layers.highway_window import TORCH, highway, unroll

SHAPES = [(4, 3, 3, 5), (1, 3, 3, 5), (4, 1, 2, 5), (4, 3, 1, 5), (1, 1, 1, 1)]


def inputs(steps: int, batch: int, depth: int, units: int) -> list[Tensor]:
    """What the input gives, the first state, the weights and the biases."""
    random = torch.Generator().manual_seed(7)
    shapes = [(steps, batch, 2 * units), (batch, units), *[(2 * units, units)] * depth, *[(2 * units,)] * depth]
    return [torch.randn(shape, generator=random, dtype=torch.float64).requires_grad_() for shape in shapes]


def a_mask(batch: int, units: int, *, wanted: bool) -> Tensor | None:
    random = torch.Generator().manual_seed(8)
    return 1.5 * (torch.rand(batch, units, generator=random, dtype=torch.float64) < 0.7) if wanted else None


def window(mask: Tensor | None, projected: Tensor, state: Tensor, *parameters: Tensor) -> Tensor:
    depth = len(parameters) // 2
    return highway(projected, state, mask, parameters[:depth], parameters[depth:])


def plain(mask: Tensor | None, projected: Tensor, state: Tensor, *parameters: Tensor) -> Tensor:
    depth, states = len(parameters) // 2, []
    for row in projected:
        for k in range(depth):
            read = state if mask is None else state * mask
            pre = nn.functional.linear(read, parameters[k], parameters[depth + k])
            h, t = (pre if k else pre + row).chunk(2, dim=-1)
            state = torch.lerp(state, torch.tanh(h), torch.sigmoid(t))
        states.append(state)
    return torch.stack(states)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_states_and_gradients(shape, masked):
    given, mask = inputs(*shape), a_mask(shape[1], shape[3], wanted=masked)
    states, expected = window(mask, *given), plain(mask, *given)
    torch.testing.assert_close(states, expected, rtol=0, atol=1e-14)
    by = torch.randn_like(states)
    ours, theirs = (torch.autograd.grad(of, given, by) for of in (states, expected))
    for k, (one, other) in enumerate(zip(ours, theirs, strict=True)):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12, msg=str(k))


@pytest.mark.parametrize("masked", [False, True])
def test_the_gradient_of_small_differences(masked):
    mask = a_mask(2, 3, wanted=masked)
    assert torch.autograd.gradcheck(lambda *given: window(mask, *given), inputs(3, 2, 2, 3))


@pytest.mark.parametrize("wanted", range(6))
def test_one_gradient_alone_is_the_same(wanted):
    given, mask = inputs(3, 2, 2, 3), a_mask(2, 3, wanted=True)
    expected = torch.autograd.grad(window(mask, *given).sum(), given)[wanted]
    alone = [x.detach().requires_grad_(k == wanted) for k, x in enumerate(given)]
    (gradient,) = torch.autograd.grad(window(mask, *alone).sum(), alone[wanted])
    torch.testing.assert_close(gradient, expected)
    assert expected.any()


def test_it_is_differentiated_once():
    given = inputs(3, 2, 2, 3)
    (gradient,) = torch.autograd.grad(window(None, *given).square().sum(), given[1], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        torch.autograd.backward(gradient.sum())


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_without_gradient_the_states_are_the_same(shape, masked):
    given, mask = inputs(*shape), a_mask(shape[1], shape[3], wanted=masked)
    expected = window(mask, *given)
    with torch.no_grad():
        states = window(mask, *given)
    assert not states.requires_grad
    for found in (states, window(mask, *(x.detach() for x in given))):
        torch.testing.assert_close(found, expected.detach(), rtol=0, atol=1e-14)


def test_without_gradient_all_steps_share_their_memory():
    steps, batch, depth, units = 20, 3, 2, 5
    projected, state, *parameters = (x.detach() for x in inputs(steps, batch, depth, units))
    mask = a_mask(batch, units, wanted=True)
    for keep, times in ((True, steps), (False, 1)):
        found = unroll(TORCH, projected, state, mask, parameters[:depth], parameters[depth:], keep=keep)
        entries = [tensor.untyped_storage().nbytes() // 8 for tensor in found if tensor is not None]
        one = batch * units * times
        assert entries == [steps * batch * units, (depth - 1) * one, depth * one, 2 * depth * one]


def test_the_last_state_carries_a_gradient():
    torch.manual_seed(1)
    layer = HighwayRecurrence(5, 2, 0.0).double()
    x, state = torch.randn(3, 2, 5, dtype=torch.float64), torch.randn(2, 5, dtype=torch.float64).requires_grad_()
    states, last = layer(x, state)
    assert torch.equal(last, states[-1])
    ours, theirs = (torch.autograd.grad(of.square().sum(), state, retain_graph=True) for of in (last, states[-1]))
    torch.testing.assert_close(ours, theirs)
    assert ours[0].any()

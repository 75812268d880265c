"""The associative scans against loops."""

import pytest
import torch

from sparse_rnn.models.layers.scan import linear_scan, log_scan


def drawn(steps: int, seed: int = 1):
    random = torch.Generator().manual_seed(seed)
    a, b = (torch.rand(steps, 2, 3, generator=random, dtype=torch.float64) + 0.05 for _ in range(2))
    return a, b, torch.rand(2, 3, generator=random, dtype=torch.float64)


def loop(a, b, h):
    states = []
    for coefficient, value in zip(a, b, strict=True):
        h = coefficient * h + value
        states.append(h)
    return torch.stack(states)


def by_logarithms(a, b, first):
    return log_scan(a.log(), b.log(), first)


@pytest.mark.parametrize("scan", [linear_scan, by_logarithms])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5, 7, 8, 33])
def test_states_and_gradients_are_those_of_a_loop(scan, steps):
    given = [part.requires_grad_() for part in drawn(steps)]
    weights = torch.randn(steps, 2, 3, dtype=torch.float64)
    results = [(states := each(*given), *torch.autograd.grad((states * weights).sum(), given)) for each in (scan, loop)]
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


def test_signs_matter_to_the_linear_scan():
    a, b, first = (part - 0.5 for part in drawn(9))
    torch.testing.assert_close(linear_scan(a, b, first), loop(a, b, first))


def test_a_state_of_zero_has_a_logarithm_here():
    a, b, first = drawn(6)
    first = torch.zeros_like(first).requires_grad_()
    states = by_logarithms(a, b, first)
    torch.testing.assert_close(states, loop(a, b, first))
    states.sum().backward()
    assert first.grad.isfinite().all()


@pytest.mark.parametrize("scan", [linear_scan, by_logarithms])
def test_long_windows_stay_exact_in_float32(scan):
    """1,000 steps whose coefficients multiply to far below the smallest float32."""
    a, b, first = drawn(1000)
    found = scan(a.float(), b.float(), first.float())
    torch.testing.assert_close(found.double(), loop(a, b, first), rtol=3e-6, atol=1e-6)

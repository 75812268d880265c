"""AR and TAR in every precision."""

import pytest
import torch

from sparse_rnn.models.layers.activation_penalty import activation_penalty


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_means_of_a_low_precision_are_not_rounded(dtype):
    """In bfloat16 a mean has two to three digits, and its gradient too."""
    output, states = (torch.randn(20, 4, 50).to(dtype).requires_grad_() for _ in range(2))
    penalty = activation_penalty(output, states, 2.0, 1.0)
    exact = activation_penalty(output.double(), states.double(), 2.0, 1.0)
    assert penalty.dtype == torch.float32
    torch.testing.assert_close(penalty.double(), exact, rtol=1e-6, atol=0)
    penalty.backward()
    assert output.grad.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("steps", [1, 5])
def test_other_precisions_are_as_they_were(dtype, steps):
    output, states = (torch.randn(steps, 3, 7, dtype=dtype) for _ in range(2))
    plain = 2.0 * output.square().mean()
    if steps > 1:
        plain = plain + 0.5 * (states[1:] - states[:-1]).square().mean()
    found = activation_penalty(output, states, 2.0, 0.5)
    assert found.dtype == dtype
    assert torch.equal(found, plain)

"""The mixture's kernels in Triton's interpreter against the same in torch."""

import pytest
import torch
from torch import Tensor, nn

pytest.importorskip("triton", reason="triton is not installed")

from sparse_rnn.backends.gpu.convert import use_triton
from sparse_rnn.backends.gpu.mixture import BLOCK, TritonRowSoftmax
from sparse_rnn.models.base import Decoder
from sparse_rnn.models.layers.mixture import RowSoftmax, mixture_cross_entropy

WORDS = (1, 11, BLOCK, BLOCK + 1, 2 * BLOCK + 37)


def gradient(softmax: RowSoftmax, factor: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    residual, scale = softmax.gradient(factor)
    assert residual.dtype == dtype
    return residual.double() * scale


@pytest.mark.parametrize("words", WORDS)
@pytest.mark.parametrize("rows", [1, 5])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 6e-3)])
def test_the_target_s_probability_and_the_residual(words, rows, dtype, tolerance):
    """The last word is a target; bfloat16 rounds the residual alone."""
    logits, target = (4 * torch.randn(rows, words)).to(dtype), torch.randint(words, (rows, 1))
    target[0], factor = words - 1, torch.rand(rows, 1) + 0.5
    log_p = torch.log_softmax(logits.double(), 1)
    onehot = torch.zeros(rows, words, dtype=torch.float64).scatter_(1, target, 1.0)
    softmax = TritonRowSoftmax(logits, target)
    assert softmax.of_target.dtype == torch.float32
    torch.testing.assert_close(softmax.of_target.double(), log_p.gather(1, target), rtol=1e-6, atol=1e-5)
    expected = (log_p.exp() - onehot) * factor
    torch.testing.assert_close(gradient(softmax, factor, dtype), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("experts", [1, 15])
@pytest.mark.parametrize("tokens", [1, 3])
def test_loss_and_gradients(experts, tokens):
    def inputs() -> list[Tensor]:
        random = torch.Generator().manual_seed(5)
        shapes = (tokens, experts, 6), (tokens, experts), (83, 6), (83,)
        latent, prior, weight, bias = (torch.randn(shape, generator=random) for shape in shapes)
        return [tensor.requires_grad_() for tensor in (latent, torch.log_softmax(prior, -1), weight, bias)]

    given, expected, targets = inputs(), inputs(), torch.randint(83, (tokens,))
    loss = mixture_cross_entropy(*given, targets, softmax=TritonRowSoftmax)
    reference = mixture_cross_entropy(*expected, targets)
    torch.testing.assert_close(loss, reference, rtol=1e-6, atol=0)
    torch.autograd.backward(loss * 2.5)
    torch.autograd.backward(reference * 2.5)
    for ours, theirs in zip(given, expected, strict=True):
        assert theirs.grad.abs().max() > 1e-3
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=3e-6, atol=1e-6)


def test_words_far_from_the_largest_and_words_without_a_chance():
    logits = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, -2e4], [0.0, 1.0, -torch.inf]])
    softmax = TritonRowSoftmax(logits, torch.tensor([[1], [1], [0]]))
    expected = torch.tensor([[-2e4], [-torch.log(torch.tensor(2.0))], [-torch.log1p(torch.exp(torch.tensor(1.0)))]])
    torch.testing.assert_close(softmax.of_target, expected)
    of_words = gradient(softmax, torch.ones(3, 1))
    torch.testing.assert_close(of_words[0], torch.tensor([1.0, -1.0, 0.0]).double())
    torch.testing.assert_close(of_words[1], torch.tensor([0.5, -0.5, 0.0]).double())
    assert of_words[2, 2] == 0


@pytest.mark.filterwarnings("ignore:invalid value")
@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_what_is_not_finite_is_not_hidden(wrong):
    logits = torch.zeros(2, BLOCK + 5)
    logits[1, BLOCK + 2] = wrong
    softmax = TritonRowSoftmax(logits, torch.tensor([[0], [0]]))
    assert softmax.of_target.isnan().tolist() == [[False], [True]]


def test_a_model_is_converted():
    decoder = Decoder(4, 11)
    use_triton(nn.ModuleList([nn.Linear(4, 4), decoder]))
    assert decoder.row_softmax is TritonRowSoftmax
    latent, log_prior = torch.randn(2, 3, 4), torch.log_softmax(torch.randn(2, 3), -1)
    inputs, targets = (latent, log_prior), torch.tensor([10, 0])
    expected = mixture_cross_entropy(*inputs, decoder.weight, decoder.bias, targets)
    torch.testing.assert_close(decoder.mixture_cross_entropy(*inputs, targets), expected)

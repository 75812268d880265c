"""The loss in chunks against the mixture written out."""

import math
from collections import Counter
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from sparse_rnn.models.base import Decoder
from sparse_rnn.models.layers import mixture as mixture_of_softmaxes
from sparse_rnn.models.layers.mixture import CopiedProducts, RowSoftmax, mixture_cross_entropy

TOKENS, EXPERTS, WIDTH, WORDS = 7, 3, 4, 11
NAMES = ("latent", "log_prior", "weight", "bias")


def inputs(*, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> list[Tensor]:
    random = torch.Generator().manual_seed(1)
    shapes = (TOKENS, EXPERTS, WIDTH), (TOKENS, EXPERTS), (WORDS, WIDTH), (WORDS,)
    latent, prior, weight, bias = (torch.randn(shape, generator=random, dtype=dtype) for shape in shapes)
    made = latent * scale, torch.log_softmax(prior, -1), weight, bias
    return [tensor.detach().requires_grad_() for tensor in made]


@pytest.fixture
def targets() -> Tensor:
    """Some words twice, as in a text."""
    return torch.tensor([3, 0, 3, 10, 5, 5, 3])


def limit_chunks(monkeypatch: pytest.MonkeyPatch, tokens: int, itemsize: int = 8) -> None:
    monkeypatch.setattr(mixture_of_softmaxes, "LOGITS_BYTES", tokens * EXPERTS * WORDS * itemsize)


def plain(latent: Tensor, log_prior: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """-mean log sum_k pi_k softmax(W z_k + b)[target], token by token."""
    losses = []
    for z, log_pi, target in zip(latent, log_prior, targets, strict=True):
        exponentials = torch.exp(z @ weight.T + bias)
        probabilities = exponentials / exponentials.sum(1, keepdim=True)
        losses.append(-torch.log((torch.exp(log_pi) * probabilities[:, target]).sum()))
    return torch.stack(losses).mean()


class Seen(TorchDispatchMode):
    """Counts operations, and the entries of the largest result; collects those that multiply in bfloat16."""

    def __init__(self) -> None:
        super().__init__()
        self.calls, self.largest, self.low_products = Counter[str](), 0, set[str]()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        self.calls[name] += 1
        if name in {"addmm", "mm", "mv"} and args[0].dtype == torch.bfloat16:
            self.low_products.add(name)
        for tensor in result if isinstance(result, tuple | list) else (result,):
            if isinstance(tensor, Tensor):
                self.largest = max(self.largest, tensor.numel())
        return result


@pytest.mark.parametrize("chunk", [1, 2, 3, TOKENS, 100])
def test_loss_and_gradients_are_those_of_the_mixture(chunk, targets, monkeypatch):
    limit_chunks(monkeypatch, chunk)
    given, expected = inputs(), inputs()
    loss, expected_loss = mixture_cross_entropy(*given, targets), plain(*expected, targets)
    torch.testing.assert_close(loss, expected_loss, rtol=0, atol=1e-12)
    torch.autograd.backward(loss * 2.5)
    torch.autograd.backward(expected_loss * 2.5)
    for name, ours, theirs in zip(NAMES, given, expected, strict=True):
        assert theirs.grad.abs().max() > 1e-3, name
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-12, msg=name)


def test_a_bound_below_one_token_takes_tokens_one_by_one(targets, monkeypatch):
    monkeypatch.setattr(mixture_of_softmaxes, "LOGITS_BYTES", 1)
    torch.testing.assert_close(mixture_cross_entropy(*inputs(), targets), plain(*inputs(), targets), rtol=0, atol=1e-12)


@pytest.mark.parametrize("chunk", [3, 100])
def test_gradients_are_those_of_finite_differences(chunk, targets, monkeypatch):
    limit_chunks(monkeypatch, chunk)
    assert torch.autograd.gradcheck(lambda *given: mixture_cross_entropy(*given, targets), inputs())


def test_backward_may_be_called_twice(targets):
    given = inputs()
    loss = mixture_cross_entropy(*given, targets)
    torch.autograd.backward(loss, retain_graph=True)
    once = [tensor.grad.clone() for tensor in given]
    torch.autograd.backward(loss)
    for tensor, first in zip(given, once, strict=True):
        torch.testing.assert_close(tensor.grad, 2 * first, rtol=0, atol=1e-14)


def test_single_precision(targets):
    given = inputs(dtype=torch.float32)
    expected = [tensor.detach().double().requires_grad_() for tensor in given]
    loss, expected_loss = mixture_cross_entropy(*given, targets), plain(*expected, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected_loss, rtol=1e-6, atol=0)
    torch.autograd.backward(loss)
    torch.autograd.backward(expected_loss)
    for ours, theirs in zip(given, expected, strict=True):
        torch.testing.assert_close(ours.grad.double(), theirs.grad, rtol=0, atol=1e-6)


def test_logits_of_plus_and_minus_ten_thousand():
    """Where every softmax underflows at the target, the loss is the distance of the logits, not that of 1e-8."""
    latent = torch.tensor([[[1e4], [1e4]], [[-1e4], [1e4]], [[-1e4], [-1e4]]], requires_grad=True)
    log_prior = torch.log(torch.tensor([[0.25, 0.75]] * 3)).requires_grad_()
    weight = torch.tensor([[1.0], [-1.0], [0.5]], requires_grad=True)
    bias = torch.zeros(3, requires_grad=True)
    targets = torch.tensor([1, 1, 2])
    loss = mixture_cross_entropy(latent, log_prior, weight, bias, targets)
    # token 0: both experts 2e4 below the best word; token 1: the first expert is sure of it; token 2: both 1.5e4 below
    assert loss.item() == pytest.approx((2e4 - math.log(0.25) + 1.5e4) / 3)
    torch.autograd.backward(loss)
    for tensor in (latent, log_prior, weight, bias):
        assert tensor.grad.isfinite().all()
    posterior = torch.tensor([[0.25, 0.75], [1.0, 0.0], [0.25, 0.75]])
    torch.testing.assert_close(log_prior.grad * -3, posterior, rtol=0, atol=1e-3)  # 2e4 is good to 1e-3 in float32
    torch.testing.assert_close(bias.grad * 3, torch.tensor([1.0, 0.0, -1.0]))


@pytest.mark.parametrize("frozen", NAMES)
def test_what_is_frozen_gets_no_gradient_and_the_others_the_same(frozen, targets):
    given, whole = inputs(), inputs()
    given[NAMES.index(frozen)].requires_grad_(False)
    torch.autograd.backward(mixture_cross_entropy(*given, targets))
    torch.autograd.backward(mixture_cross_entropy(*whole, targets))
    for name, ours, theirs in zip(NAMES, given, whole, strict=True):
        if name == frozen:
            assert ours.grad is None
        else:
            assert torch.equal(ours.grad, theirs.grad), name


def test_products_a_chunk_are_three_and_one_without_gradients(targets, monkeypatch):
    limit_chunks(monkeypatch, 2)
    given = inputs()
    with Seen() as training:
        torch.autograd.backward(mixture_cross_entropy(*given, targets))
    chunks = 4
    assert {name: training.calls[name] for name in ("addmm", "mm", "addmm_", "addmv_")} == {
        "addmm": chunks,
        "mm": chunks,
        "addmm_": chunks,
        "addmv_": chunks,
    }
    with torch.no_grad(), Seen() as evaluation:
        loss = mixture_cross_entropy(*given, targets)
    assert not loss.requires_grad
    assert evaluation.calls["addmm"] == chunks
    assert not {"mm", "addmm_", "addmv_", "scatter_add_"} & set(evaluation.calls)
    assert evaluation.largest == 2 * EXPERTS * WORDS


def test_no_intermediate_is_larger_than_a_chunk(monkeypatch):
    """The bound is in bytes: float32 has room for twice the tokens of float64."""
    tokens, words = 60, 50
    monkeypatch.setattr(mixture_of_softmaxes, "LOGITS_BYTES", 8 * EXPERTS * words * 4)
    targets = torch.randint(words, (tokens,))
    for dtype, at_once in ((torch.float32, 8), (torch.float64, 4)):
        latent = torch.randn(tokens, EXPERTS, 2, dtype=dtype, requires_grad=True)
        log_prior = torch.log_softmax(torch.randn(tokens, EXPERTS, dtype=dtype), -1).requires_grad_()
        weight, bias = torch.randn(words, 2, dtype=dtype, requires_grad=True), torch.zeros(words, dtype=dtype)
        with Seen() as seen:
            torch.autograd.backward(mixture_cross_entropy(latent, log_prior, weight, bias, targets))
        assert seen.largest == at_once * EXPERTS * words


@pytest.mark.parametrize("chunk", [2, 100])
def test_products_with_a_copy_are_those_with_the_weight(chunk, targets, monkeypatch):
    """The copy's further words change neither the loss nor a gradient."""
    limit_chunks(monkeypatch, chunk)
    given, expected = inputs(), inputs()
    loss = mixture_cross_entropy(*given, targets, partial(CopiedProducts, torch.float64))
    expected_loss = mixture_cross_entropy(*expected, targets)
    torch.testing.assert_close(loss, expected_loss, rtol=0, atol=1e-14)
    torch.autograd.backward(loss * 2.5)
    torch.autograd.backward(expected_loss * 2.5)
    for name, ours, theirs in zip(NAMES, given, expected, strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=1e-14, msg=name)


@pytest.mark.parametrize("low", ["weights", "weights and latents"])
def test_under_autocast_only_products_are_of_low_precision(low, targets):
    given, expected = inputs(dtype=torch.float32), inputs(dtype=torch.float32)
    first = given[0] if low == "weights" else given[0].bfloat16()
    with torch.autocast("cpu", torch.bfloat16), Seen() as seen:
        loss = mixture_cross_entropy(first, *given[1:], targets)
    expected_loss = mixture_cross_entropy(*expected, targets)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected_loss, rtol=1e-2, atol=0)
    assert not torch.equal(loss, expected_loss)
    assert seen.low_products == {"addmm", "mm", "mv"}
    torch.autograd.backward(loss)
    torch.autograd.backward(expected_loss)
    for name, ours, theirs in zip(NAMES, given, expected, strict=True):
        assert ours.grad.dtype == torch.float32
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=0, atol=2e-2 * theirs.grad.abs().max().item(), msg=name)


def test_the_evaluated_loss_under_autocast_is_that_of_training(targets):
    given = inputs(dtype=torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        training = mixture_cross_entropy(*given, targets)
        with torch.no_grad():
            assert torch.equal(mixture_cross_entropy(*given, targets), training.detach())


def test_the_plain_loss_under_autocast_is_computed_in_float32():
    """In bfloat16 it would be a multiple of 2^-6."""
    decoder, x, target = Decoder(4, 11), torch.randn(7, 4), torch.randint(11, (7,))
    with torch.autocast("cpu", torch.bfloat16):
        loss, logits = decoder.cross_entropy(x, target), decoder(x)
    assert (loss.dtype, logits.dtype) == (torch.float32, torch.bfloat16)
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(logits.float(), target), rtol=1e-6, atol=0)


def test_a_decoder_computes_with_the_softmaxes_it_is_given(targets):
    class Counting(RowSoftmax):
        made = 0

        def __init__(self, logits: Tensor, target: Tensor) -> None:
            super().__init__(logits, target)
            Counting.made += 1

    decoder, others = Decoder(WIDTH, WORDS).double(), Decoder(WIDTH, WORDS)
    decoder.row_softmax = Counting
    latent, log_prior, *_ = inputs()
    decoder.mixture_cross_entropy(latent, log_prior, targets)
    assert Counting.made == 1
    assert others.row_softmax is RowSoftmax

"""Cross-entropy of a mixture of softmaxes (Yang et al. 2018), in bounded memory.

p(word) = sum_k pi_k p_k(word), p_k = softmax(W z_k + b). With the posterior q_k = pi_k p_k(target) / p(target), the
gradients of -log p(target) are -q_k by log pi_k and q_k (p_k - onehot(target)) by the logits of expert k. They are
known in the forward pass up to the factor that backward receives. So tokens are processed in chunks, each of which
adds its loss and its gradients, and the logits of all tokens never exist at once.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sparse_rnn.models.layers.precision import product_dtype

LOGITS_BYTES = 1 << 24  # of the logits of a chunk: enough rows for a fast matrix product, small enough for caches
LOGITS_BYTES_ON_CUDA = 1 << 30  # launches cost more than memory there: one chunk for 350 tokens of WikiText-2, K = 15


def mixture_cross_entropy(
    latent: Tensor,
    log_prior: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    products: "MakeProducts | None" = None,
    softmax: "type[RowSoftmax] | None" = None,
) -> Tensor:
    """Mean of -log p(target) in nats, over N tokens, K experts, latents of E entries and V words.

    latent: z [N, K, E]; log_prior: log pi [N, K]; weight: W [V, E]; bias: b [V]; targets: int64 [N].
    products: multiplies by W if `weight` does not hold W as a dense matrix. softmax: computes p_k.
    Under autocast, products with a dense W are computed in its type, and all else in float32.
    """
    dtype, device = product_dtype(weight), latent.device.type
    if dtype != weight.dtype and products is None:
        with torch.autocast(device, enabled=False):
            copied = partial(CopiedProducts, dtype)
            return mixture_cross_entropy(latent, log_prior.float(), weight, bias, targets, copied, softmax)
    make = products or (partial(CopiedProducts, dtype) if device == "cuda" else DecoderProducts)
    softmax, inputs = softmax or RowSoftmax, (latent, log_prior, weight, bias)
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        loss: Tensor = _MixtureCrossEntropy.apply(*inputs, targets, make, softmax)  # type: ignore[no-untyped-call]
        return loss
    return _loss_and_gradients(latent, log_prior, make(weight, bias, (False,) * 3), targets, softmax)[0]


class _MixtureCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        latent: Tensor,
        log_prior: Tensor,
        weight: Tensor,
        bias: Tensor,
        targets: Tensor,
        make: "MakeProducts",
        softmax: "type[RowSoftmax]",
    ) -> Tensor:
        of_latent, of_prior, *others = ctx.needs_input_grad[:4]
        decoder = make(weight, bias, (of_latent, *others))
        loss, by_latent, by_prior = _loss_and_gradients(latent, log_prior, decoder, targets, softmax, of_prior=of_prior)
        decoder.release_logits()
        ctx.save_for_backward(by_latent, by_prior, decoder.by_weight, decoder.by_bias)
        ctx.decoder = decoder
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        ctx.decoder.contribute_dense_gradient(factor)
        gradients = (None if gradient is None else gradient * factor for gradient in ctx.saved_tensors)
        return *gradients, None, None, None


def _loss_and_gradients(
    latent: Tensor,
    log_prior: Tensor,
    decoder: "DecoderProducts",
    targets: Tensor,
    softmax: "type[RowSoftmax]",
    *,
    of_prior: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The loss and its gradients by latent and log_prior; the decoder accumulates those by W and b.

    Only the gradients that are wanted are computed; others are None.
    """
    tokens, experts, _ = latent.shape
    bound = LOGITS_BYTES_ON_CUDA if latent.device.type == "cuda" else LOGITS_BYTES
    at_once = max(1, bound // (experts * decoder.words * latent.element_size()))
    by_latent, by_log_prior = (
        torch.zeros_like(tensor, memory_format=torch.contiguous_format) if need else None
        for tensor, need in ((latent, decoder.wanted[0]), (log_prior, of_prior))
    )
    loss = log_prior.new_zeros(())
    for start in range(0, tokens, at_once):
        chunk = slice(start, start + at_once)
        z, target = latent[chunk].flatten(0, 1), targets[chunk, None].expand(-1, experts).reshape(-1, 1)
        softmaxes = softmax(decoder.logits(z, min(at_once, tokens) * experts), target)
        joint = log_prior[chunk] + softmaxes.of_target.view(-1, experts)
        loss -= joint.logsumexp(1).sum() / tokens
        posterior = joint.softmax(1) / tokens
        if by_log_prior is not None:
            by_log_prior[chunk] = -posterior
        if any(decoder.wanted):
            residual, scale = softmaxes.gradient(posterior.view(-1, 1))
            decoder.backward(residual, scale, z, None if by_latent is None else by_latent[chunk].view_as(z))
    return loss, by_latent, by_log_prior


class RowSoftmax:
    """The softmax p of each row of logits [n, V], which are overwritten, and its value at target, int64 [n, 1].

    of_target: log p(target) [n, 1], in float32 if logits are of a lower precision.
    """

    def __init__(self, logits: Tensor, target: Tensor) -> None:
        values = logits.to(torch.promote_types(logits.dtype, torch.float32))
        of_target, largest = values.gather(1, target), values.amax(1, keepdim=True)
        self._target, self._dtype = target, logits.dtype
        self._exponentials = values.sub_(largest).exp_()  # p = exponentials / total
        self._total = self._exponentials.sum(1, keepdim=True)
        self.of_target = of_target - largest - self._total.log()

    def gradient(self, factor: Tensor) -> tuple[Tensor, Tensor]:
        """factor [n, 1] * (p - onehot(target)) as residual [n, V] * scale [n, 1], the first of the logits' type.

        To be called once, since it overwrites what it needs.
        """
        # (exponentials - total * onehot) * (factor / total): in place, and the scale is per row.
        residual = self._exponentials.scatter_add_(1, self._target, -self._total)
        return residual.to(self._dtype), factor / self._total


class DecoderProducts:
    """Products with W [V, E] and b [V], and the accumulated gradients by both.

    wanted: whether the gradients by z, W and b are wanted.
    """

    def __init__(self, weight: Tensor, bias: Tensor, wanted: Sequence[bool]) -> None:
        self.weight, self.bias, self.wanted = weight, bias, wanted
        self.by_weight, self.by_bias = (
            torch.zeros_like(tensor, memory_format=torch.contiguous_format) if need else None
            for tensor, need in ((weight, wanted[1]), (bias, wanted[2]))
        )
        self._buffer: Tensor | None = None

    @property
    def words(self) -> int:
        """The size V of the vocabulary."""
        return len(self.weight)

    def logits(self, z: Tensor, rows: int) -> Tensor:
        """W z + b [n, V] for z [n, E], in a buffer of `rows` >= n rows that the next call overwrites."""
        if self._buffer is None:
            self._buffer = z.new_empty(rows, self.words)
        return torch.addmm(self.bias, z, self.weight.t(), out=self._buffer[: len(z)])

    def backward(self, residual: Tensor, scale: Tensor, z: Tensor, by_z: Tensor | None) -> None:
        """Add the gradients, given the one by the last logits: residual [n, V] * scale [n, 1]; may overwrite both.

        by_z [n, E] receives the gradient by z, unless it is None.
        """
        if by_z is not None:
            torch.mm(residual, self.weight, out=by_z).mul_(scale)
        if self.by_weight is not None:
            self.by_weight.addmm_(residual.t(), z * scale)
        if self.by_bias is not None:
            self.by_bias.addmv_(residual.t(), scale[:, 0])

    def release_logits(self) -> None:
        """Free the buffer, after the last chunk."""
        self._buffer = None

    def contribute_dense_gradient(self, factor: Tensor) -> None:
        """Called in backward with the factor of the gradients, for products whose gradient by W is not dense."""


class CopiedProducts(DecoderProducts):
    """The products with a copy of W and b in `dtype`; gradients are accumulated in the parameters' own types.

    The copy has further words up to a multiple of 64, whose logits are -inf: tensor cores want rows that are aligned,
    which those of 33,278 logits (WikiText-2) are not.
    """

    def __init__(self, dtype: torch.dtype, weight: Tensor, bias: Tensor, wanted: Sequence[bool]) -> None:
        super().__init__(weight, bias, wanted)
        self._vocabulary, self._dtype = len(weight), dtype
        further = -len(weight) % 64
        self.weight = nn.functional.pad(weight.detach().to(dtype), (0, 0, 0, further))
        self.bias = nn.functional.pad(bias.detach().to(dtype), (0, further), value=-math.inf)

    def logits(self, z: Tensor, rows: int) -> Tensor:
        """See DecoderProducts."""
        return super().logits(z.to(self._dtype), rows)

    def backward(self, residual: Tensor, scale: Tensor, z: Tensor, by_z: Tensor | None) -> None:
        """See DecoderProducts."""
        if by_z is not None:
            by_z.copy_(torch.mm(residual, self.weight) * scale)
        of_words = residual[:, : self._vocabulary].t()
        if self.by_weight is not None:
            self.by_weight.add_(torch.mm(of_words, (z * scale).to(self._dtype)))
        if self.by_bias is not None:
            self.by_bias.add_(torch.mv(of_words, scale[:, 0].to(self._dtype)))


MakeProducts = Callable[[Tensor, Tensor, Sequence[bool]], DecoderProducts]

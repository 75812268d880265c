"""Cross-entropy of a mixture of softmaxes (Yang et al. 2018), in bounded memory.

p(word) = sum_k pi_k p_k(word), p_k = softmax(W z_k + b). With the posterior q_k = pi_k p_k(target) / p(target), the
gradients of -log p(target) are -q_k by log pi_k and q_k (p_k - onehot(target)) by the logits of expert k. They are
known in the forward pass up to the factor that backward receives. So tokens are processed in chunks, each of which
adds its loss and its gradients, and the logits of all tokens never exist at once.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LOGITS_BYTES = 1 << 24  # of the logits of a chunk: enough rows for a fast matrix product, small enough for caches


def mixture_cross_entropy(
    latent: Tensor,
    log_prior: Tensor,
    weight: Tensor,
    bias: Tensor,
    targets: Tensor,
    products: "MakeProducts | None" = None,
) -> Tensor:
    """Mean of -log p(target) in nats, over N tokens, K experts, latents of E entries and V words.

    latent: z [N, K, E]; log_prior: log pi [N, K]; weight: W [V, E]; bias: b [V]; targets: int64 [N].
    products: multiplies by W if `weight` does not hold W as a dense matrix.
    """
    make = products or DecoderProducts
    inputs = latent, log_prior, weight, bias
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        loss: Tensor = _MixtureCrossEntropy.apply(*inputs, targets, make)  # type: ignore[no-untyped-call]
        return loss
    return _loss_and_gradients(latent, log_prior, make(weight, bias, (False,) * 3), targets)[0]


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
    ) -> Tensor:
        of_latent, of_prior, *others = ctx.needs_input_grad[:4]
        decoder = make(weight, bias, (of_latent, *others))
        loss, by_latent, by_prior = _loss_and_gradients(latent, log_prior, decoder, targets, of_prior=of_prior)
        ctx.save_for_backward(by_latent, by_prior, decoder.by_weight, decoder.by_bias)
        ctx.decoder = decoder
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        ctx.decoder.contribute_dense_gradient(factor)
        gradients = (None if gradient is None else gradient * factor for gradient in ctx.saved_tensors)
        return *gradients, None, None


def _loss_and_gradients(
    latent: Tensor, log_prior: Tensor, decoder: "DecoderProducts", targets: Tensor, *, of_prior: bool = False
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The loss and its gradients by latent and log_prior; the decoder accumulates those by W and b.

    Only the gradients that are wanted are computed; others are None.
    """
    tokens, experts, _ = latent.shape
    at_once = max(1, LOGITS_BYTES // (experts * decoder.words * latent.element_size()))
    by_latent, by_log_prior = (
        torch.zeros_like(tensor, memory_format=torch.contiguous_format) if need else None
        for tensor, need in ((latent, decoder.wanted[0]), (log_prior, of_prior))
    )
    loss = latent.new_zeros(())
    for start in range(0, tokens, at_once):
        chunk = slice(start, start + at_once)
        z, target = latent[chunk].flatten(0, 1), targets[chunk].repeat_interleave(experts)[:, None]
        logits = decoder.logits(z, min(at_once, tokens) * experts)
        of_target, largest = logits.gather(1, target), logits.amax(1, keepdim=True)
        exponentials = logits.sub_(largest).exp_()  # p_k = exponentials / total
        total = exponentials.sum(1, keepdim=True)
        joint = log_prior[chunk] + (of_target - largest - total.log()).view(-1, experts)
        loss -= joint.logsumexp(1).sum() / tokens
        posterior = joint.softmax(1) / tokens
        if by_log_prior is not None:
            by_log_prior[chunk] = -posterior
        # q_k (p_k - onehot) = (exponentials - total * onehot) * (q_k / total): in place, and the scale is per row.
        residual, scale = exponentials.scatter_add_(1, target, -total), posterior.view(-1, 1) / total
        decoder.backward(residual, scale, z, None if by_latent is None else by_latent[chunk].view_as(z))
    return loss, by_latent, by_log_prior


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

    def contribute_dense_gradient(self, factor: Tensor) -> None:
        """Called in backward with the factor of the gradients, for products whose gradient by W is not dense."""


MakeProducts = Callable[[Tensor, Tensor, Sequence[bool]], DecoderProducts]

"""Cross-entropy of a mixture of softmaxes (Yang et al. 2018), in bounded memory.

p(word) = sum_k pi_k softmax(W z_k + b)[word]. The loss of a token needs of each expert only its normaliser and the
logit of the target, and as a mean its gradient is known up to a factor. So chunks of tokens pass by, each leaving its
loss and its gradients, and the logits of all tokens never exist at once.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

LOGITS_BYTES = 1 << 24  # of the logits that exist at once: rows enough for a fast matrix product, near the caches


def mixture_cross_entropy(latent: Tensor, log_prior: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
    """Mean of -log p(target) in nats.

    latent: z [N, K, E]; log_prior: log pi [N, K]; weight: W [V, E]; bias: b [V]; targets: int64 [N].
    """
    inputs = latent, log_prior, weight, bias
    if torch.is_grad_enabled() and any(tensor.requires_grad for tensor in inputs):
        loss: Tensor = _MixtureCrossEntropy.apply(*inputs, targets)  # type: ignore[no-untyped-call]
        return loss
    return _loss_and_gradients(*inputs, targets, wanted=(False,) * 4)[0]


class _MixtureCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, latent: Tensor, log_prior: Tensor, weight: Tensor, bias: Tensor, targets: Tensor) -> Tensor:
        wanted = ctx.needs_input_grad[:4]
        loss, gradients = _loss_and_gradients(latent, log_prior, weight, bias, targets, wanted=wanted)
        ctx.save_for_backward(*gradients)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, factor: Tensor) -> tuple[Tensor | None, ...]:
        return *(None if gradient is None else gradient * factor for gradient in ctx.saved_tensors), None


def _loss_and_gradients(
    latent: Tensor, log_prior: Tensor, weight: Tensor, bias: Tensor, targets: Tensor, *, wanted: Sequence[bool]
) -> tuple[Tensor, list[Tensor | None]]:
    """The loss and its gradients by the first four arguments, those that are wanted."""
    tokens, experts, _ = latent.shape
    at_once = max(1, LOGITS_BYTES // (experts * len(weight) * latent.element_size()))
    buffer = latent.new_empty(min(at_once, tokens) * experts, len(weight))
    gradients = [
        torch.zeros_like(tensor, memory_format=torch.contiguous_format) if need else None
        for tensor, need in zip((latent, log_prior, weight, bias), wanted, strict=True)
    ]
    by_latent, by_log_prior, by_weight, by_bias = gradients
    loss = latent.new_zeros(())
    for start in range(0, tokens, at_once):
        chunk = slice(start, start + at_once)
        z, target = latent[chunk].flatten(0, 1), targets[chunk].repeat_interleave(experts)[:, None]
        logits = torch.addmm(bias, z, weight.t(), out=buffer[: len(z)])
        of_target, largest = logits.gather(1, target), logits.amax(1, keepdim=True)
        exponentials = logits.sub_(largest).exp_()
        total = exponentials.sum(1, keepdim=True)
        joint = log_prior[chunk] + (of_target - largest - total.log()).view(-1, experts)
        loss -= joint.logsumexp(1).sum() / tokens
        posterior = joint.softmax(1) / tokens
        if by_log_prior is not None:
            by_log_prior[chunk] = -posterior
        residual, scale = exponentials.scatter_add_(1, target, -total), posterior.view(-1, 1) / total
        if by_latent is not None:
            torch.mm(residual, weight, out=by_latent[chunk].view_as(z)).mul_(scale)
        if by_weight is not None:
            by_weight.addmm_(residual.t(), z * scale)
        if by_bias is not None:
            by_bias.addmv_(residual.t(), scale[:, 0])
    return loss, gradients

"""Cross-entropy of a mixture of softmaxes whose decoder has a sparse weight.

The loss, its chunks and its gradients are those of models/layers/mixture.py; only products with W are replaced here.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from sparse_rnn.backends.cpu.dense_gradient_taps import DenseContribution, make_tap
from sparse_rnn.backends.cpu.functions.products import Stored, linear
from sparse_rnn.backends.cpu.structure import Structure
from sparse_rnn.models.layers.mixture import DecoderProducts, mixture_cross_entropy


def sparse_mixture_cross_entropy(
    latent: Tensor, log_prior: Tensor, weight: Stored, bias: Tensor, targets: Tensor
) -> Tensor:
    """`mixture_cross_entropy` with a sparse W [V, E]: mean of -log p(target) in nats.

    latent: z [N, K, E]; log_prior: log pi [N, K]; bias: b [V]; targets: int64 [N].
    """
    products = partial(SparseDecoderProducts, weight.structure)
    return mixture_cross_entropy(latent, log_prior, weight.values, bias, targets, products)


class SparseDecoderProducts(DecoderProducts):
    """Products with a sparse W [V, E], `values` [active] in the order of `structure`, by the kernels.

    `_dense`: the dense gradient by W, if the structure is watched. It is formed chunk by chunk, since all chunks'
    contributions together would be as large as the logits that the chunks avoid.
    """

    def __init__(self, structure: Structure, values: Tensor, bias: Tensor, wanted: Sequence[bool]) -> None:
        super().__init__(values, bias, wanted)
        self.structure = structure
        self._dense = values.new_zeros(structure.shape) if structure.contributions is not None and wanted[1] else None

    @property
    def words(self) -> int:
        """The size V of the vocabulary."""
        return self.structure.shape[0]

    def logits(self, z: Tensor, rows: int) -> Tensor:
        """W z + b [n, V] for z [n, E]; the graph of this product is kept for `backward`."""
        inputs = (z, self.weight, self.bias)
        self._inputs = [tensor.detach().requires_grad_(need) for tensor, need in zip(inputs, self.wanted, strict=True)]
        self._tap = self.structure if self._dense is None else make_tap(self.structure)
        with torch.enable_grad():
            of_z, values, bias = self._inputs
            self._logits = linear(of_z, values, self._tap, bias)
        return self._logits.detach()

    def backward(self, residual: Tensor, scale: Tensor, z: Tensor, by_z: Tensor | None) -> None:
        """Add the gradients, given the one by the last logits: residual [n, V] * scale [n, 1]; overwrites residual."""
        targets = by_z, self.by_weight, self.by_bias
        wanted = [(tensor, target) for tensor, target in zip(self._inputs, targets, strict=True) if target is not None]
        if not wanted:
            return
        gradients = torch.autograd.grad(self._logits, [tensor for tensor, _ in wanted], residual.mul_(scale))
        for gradient, (_, target) in zip(gradients, wanted, strict=True):
            target.add_(gradient)
        if self._dense is not None:
            for contribution in self._tap.take_contributions():
                contribution.add_to(self._dense)

    def contribute_dense_gradient(self, factor: Tensor) -> None:
        """Contribute the dense gradient by W, times the factor that backward was given, to the structure."""
        if self._dense is not None and self.structure.contributions is not None:
            self.structure.contributions.append(DenseContribution(self._dense * factor))

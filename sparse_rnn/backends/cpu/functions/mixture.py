"""Cross-entropy of a mixture of softmaxes whose decoder has a sparse weight."""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from sparse_rnn.backends.cpu.dense_gradient_taps import DenseContribution, watched_apart
from sparse_rnn.backends.cpu.functions.products import Stored, linear
from sparse_rnn.backends.cpu.structure import Structure
from sparse_rnn.models.layers.mixture import DecoderProducts, mixture_cross_entropy


def sparse_mixture_cross_entropy(
    latent: Tensor, log_prior: Tensor, weight: Stored, bias: Tensor, targets: Tensor
) -> Tensor:
    """`mixture_cross_entropy` with a sparse W."""
    products = partial(SparseDecoderProducts, weight.structure)
    return mixture_cross_entropy(latent, log_prior, weight.values, bias, targets, products)


class SparseDecoderProducts(DecoderProducts):
    """Products with a sparse W [V, E], `values` [active] in the order of `structure`, by the kernels."""

    def __init__(self, structure: Structure, values: Tensor, bias: Tensor, wanted: Sequence[bool]) -> None:
        super().__init__(values, bias, wanted)
        self.structure = structure
        self._dense = values.new_zeros(structure.shape) if structure.factors is not None and wanted[1] else None

    @property
    def words(self) -> int:
        """V."""
        return self.structure.shape[0]

    def logits(self, z: Tensor, rows: int) -> Tensor:
        """See DecoderProducts."""
        inputs = (z, self.weight, self.bias)
        self._inputs = [tensor.detach().requires_grad_(need) for tensor, need in zip(inputs, self.wanted, strict=True)]
        self._apart = self.structure if self._dense is None else watched_apart(self.structure)
        with torch.enable_grad():
            of_z, values, bias = self._inputs
            self._logits = linear(of_z, values, self._apart, bias)
        return self._logits.detach()

    def backward(self, residual: Tensor, scale: Tensor, z: Tensor, by_z: Tensor | None) -> None:
        """See DecoderProducts."""
        targets = by_z, self.by_weight, self.by_bias
        wanted = [(tensor, target) for tensor, target in zip(self._inputs, targets, strict=True) if target is not None]
        if not wanted:
            return
        gradients = torch.autograd.grad(self._logits, [tensor for tensor, _ in wanted], residual.mul_(scale))
        for gradient, (_, target) in zip(gradients, wanted, strict=True):
            target.add_(gradient)
        if self._dense is not None:
            for factor in self._apart.take_factors():
                factor.add_to(self._dense)

    def hand_on_dense_gradient(self, factor: Tensor) -> None:
        """Give it to the structure, which is watched."""
        if self._dense is not None and self.structure.factors is not None:
            self.structure.factors.append(DenseContribution(self._dense * factor))

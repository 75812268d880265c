"""Sparse weights in the storage that is tested: masked or, in `make test-backend`, with active entries alone."""

import os

import pytest
from torch import Tensor
from torch.optim import Optimizer

from sparse_rnn.backends.cpu.dense_gradient_taps import DenseContribution
from sparse_rnn.backends.cpu.storage import Packed
from sparse_rnn.backends.cpu.structure import Structure
from sparse_rnn.sparsity.optimizer_state import tensors_like
from sparse_rnn.sparsity.topology import SparseWeight

ON_KERNELS = bool(os.environ.get("SPARSE_RNN_BACKEND_TEST"))  # `make test-backend`


def masked_only(reason: str) -> pytest.MarkDecorator:
    """For a test of what only masked weights can do."""
    return pytest.mark.skipif(ON_KERNELS, reason=reason)


def as_tested(weight: SparseWeight) -> SparseWeight:
    """A masked weight that no module computes with, stored as is tested; no optimizer has state of it yet."""
    if ON_KERNELS:
        structure = Structure(weight.mask)
        weight.parameter.data = structure.pack(weight.parameter.data)
        weight.storage = Packed(structure)
    return weight


def set_gradient(weight: SparseWeight, dense: Tensor) -> None:
    """What a backward pass leaves behind whose dense gradient is `dense`."""
    weight.parameter.grad = weight.storage.stored(dense.clone())
    if isinstance(weight.storage, Packed) and weight.storage.structure.contributions is not None:
        weight.storage.structure.contributions.append(DenseContribution(dense))


def gradient_of(weight: SparseWeight) -> Tensor:
    """The gradient that an optimizer would step on, of the weight's shape."""
    assert weight.parameter.grad is not None
    return weight.storage.dense(weight.parameter.grad)


def state_of(optimizer: Optimizer, weight: SparseWeight) -> dict[str, Tensor]:
    """Copies of the optimizer's tensors of a weight, of its shape, by name."""
    tensors = tensors_like(optimizer, weight.parameter)
    return {key: weight.storage.dense(tensor).clone() for key, tensor in tensors.items()}

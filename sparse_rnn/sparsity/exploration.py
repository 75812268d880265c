"""How much of all parameters a method has tried so far."""

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from sparse_rnn.sparsity.topology import SparseTopology, pack_bits


class Exploration:
    """Which entries of the sparse weights have ever been active; one bit an entry of memory, on the CPU.

    `rate` is the in-time over-parameterization rate R_s (ITOP, Liu et al. 2021, section 3.2), exactly.
    """

    def __init__(self, topology: SparseTopology) -> None:
        self._size = topology.size
        self._bits = {weight.name: pack_bits(weight.mask) for weight in topology}
        self._counts: dict[str, int] = {}  # counted when somebody asks: a GPU need not wait for it

    def add(self, name: str, mask: Tensor) -> None:
        """A weight has another mask, bool of its shape."""
        self._bits[name] = self._bits[name] | pack_bits(mask)  # a new tensor: a checkpoint may hold the old one
        self._counts.pop(name, None)

    @property
    def rate(self) -> float:
        """The share of all entries that have ever been active, in [0, 1]."""
        for name in self._bits.keys() - self._counts.keys():
            self._counts[name] = _count(self._bits[name])
        return sum(self._counts.values()) / self._size

    def state_dict(self) -> dict[str, Tensor]:
        """The bits by weight name, packed as those of masks."""
        return dict(self._bits)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self._bits = {name: state[name] for name in self._bits}
        self._counts = {}


def _count(bits: Tensor) -> int:
    return int(np.unpackbits(bits.numpy()).sum())

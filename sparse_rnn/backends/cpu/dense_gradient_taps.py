"""Dense gradients of weights that a product sees changed."""

from copy import copy
from typing import NamedTuple

from torch import Tensor

from sparse_rnn.backends.cpu.structure import Structure


def watched_apart(structure: Structure) -> Structure:
    """The same active entries, whose factors are kept beside those of `structure`."""
    _ = structure.transpose  # or each copy would make one of its own
    apart = copy(structure)
    apart.watch()
    return apart


class DenseContribution(NamedTuple):
    """One contribution to a dense gradient that is formed already."""

    dense: Tensor

    def add_to(self, dense: Tensor) -> None:
        """Add it to a dense gradient [R, C]."""
        dense.add_(self.dense)


class DroppedContribution(NamedTuple):
    """Contributions to the dense gradient of weight * kept / divisor, seen as one to that of the weight."""

    dropped: Structure
    kept: Tensor
    divisor: float

    def add_to(self, dense: Tensor) -> None:
        """Add it to a dense gradient [R, C]."""
        of_dropped = dense.new_zeros(dense.shape)
        for factor in self.dropped.factors or []:
            factor.add_to(of_dropped)
        dense.add_(of_dropped.mul_(self.kept).div_(self.divisor))

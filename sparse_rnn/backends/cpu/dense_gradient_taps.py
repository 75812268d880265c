"""What a product sees of a weight that has been changed before it: taps for the dense gradient.

A dense gradient is formed from what each product contributes to its structure (Structure.watch). Where a product sees a
copy of the weight with dropped entries, or where a loss passes in chunks, the contributions go to a tap. From there,
they go to the weight's structure, converted.
"""

from copy import copy
from typing import NamedTuple

from torch import Tensor

from sparse_rnn.backends.cpu.structure import Structure


def make_tap(structure: Structure) -> Structure:
    """The same active entries in the same order, with contributions of their own."""
    _ = structure.transpose  # computed now, it is shared; else every tap would compute its own
    tap = copy(structure)
    tap.watch()
    return tap


class DenseContribution(NamedTuple):
    """A contribution to a dense gradient [R, C] that is already formed."""

    dense: Tensor

    def add_to(self, dense: Tensor) -> None:
        """Add it to a dense gradient [R, C]."""
        dense.add_(self.dense)


class DroppedContribution(NamedTuple):
    """What a product with weight * kept / divisor contributes to the gradient of the weight.

    tap: what has watched that product; kept: bool [R, C], drawn by DropConnect.
    """

    tap: Structure
    kept: Tensor
    divisor: float

    def add_to(self, dense: Tensor) -> None:
        """Add it to a dense gradient [R, C]."""
        of_dropped = dense.new_zeros(dense.shape)
        for contribution in self.tap.contributions or []:
            contribution.add_to(of_dropped)
        dense.add_(of_dropped.mul_(self.kept).div_(self.divisor))

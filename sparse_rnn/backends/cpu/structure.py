"""Where the active entries of a weight are, and in which order its values are stored."""

from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from sparse_rnn.backends.cpu.memory import lasting_memory
from sparse_rnn.backends.cpu.operators import operators


class Contribution(Protocol):
    """What one product contributes to the dense gradient of its weight."""

    def add_to(self, dense: Tensor) -> None:
        """Add it to a dense gradient [R, C]."""


class Structure:
    """The active entries of one weight [R, C]; all that compute with the weight share this object.

    layout: the four tensors that csrc/blocked.h calls first, starts, row and column. They store values block by block,
    in the order in which a product reads them, so that it reads memory as one stream. Files hold values in row-major
    order instead, so that they do not depend on the version of the kernels.
    contributions: those to a dense gradient since `watch`; None if nothing watches.
    """

    def __init__(self, mask: Tensor) -> None:
        self.contributions: list[Contribution] | None = None
        self._transposed: tuple[list[Tensor], Tensor] | None = None
        self.set_mask(mask)

    def set_mask(self, mask: Tensor) -> None:
        """Become the structure of another mask, bool [R, C]; the caller carries the values over."""
        self.shape = (mask.shape[0], mask.shape[1])
        self.layout: list[Tensor] = operators().layout_of(mask.contiguous())
        self._transposed = self._transpose() if self._transposed else None

    @property
    def active(self) -> int:
        """Number of active entries."""
        return self.layout[3].numel()

    @property
    def positions(self) -> Tensor:
        """The row-major index of each stored value, int64 [active]."""
        positions: Tensor = operators().positions(self.layout, self.shape[1], False)
        return positions

    @property
    def mask(self) -> Tensor:
        """True where active, bool [R, C]; a new tensor."""
        mask = torch.zeros(self.shape[0] * self.shape[1], dtype=torch.bool)
        mask[self.positions] = True
        return mask.view(self.shape)

    def pack(self, dense: Tensor) -> Tensor:
        """The active entries of a tensor [R, C] in stored order, [active]."""
        return dense.flatten()[self.positions]

    def arrange(self, values: Tensor) -> Tensor:
        """The active entries in row-major order [active], as files hold them, in stored order [active]."""
        arranged, positions, columns = torch.empty_like(values), self.positions, self.shape[1]
        panels, starts = self.layout[0].tolist(), self.layout[1]
        blocks = (starts.numel() - 1) // self.shape[0]
        # A panel's entries lie together in both orders: of one at a time, their ranks take little memory.
        for top, bottom in pairwise(panels):
            panel = slice(int(starts[top * blocks]), int(starts[bottom * blocks]))
            own = positions[panel] - top * columns
            active = torch.zeros((bottom - top) * columns, dtype=torch.int32)
            active[own] = 1
            arranged[panel] = values[panel][active.cumsum(0, dtype=torch.int32)[own] - 1]
        return arranged

    def unpack(self, values: Tensor) -> Tensor:
        """Stored values [active] as a tensor [R, C], zero where inactive."""
        dense = values.new_zeros(self.shape[0] * self.shape[1])
        dense[self.positions] = values
        return dense.view(self.shape)

    @property
    def places(self) -> Tensor:
        """Where each entry is stored, in row-major order, int32 [R * C]; the number `active` where it is inactive."""
        places = torch.full((self.shape[0] * self.shape[1],), self.active, dtype=torch.int32)
        places[self.positions] = torch.arange(self.active, dtype=torch.int32)
        return places

    @property
    def transpose(self) -> tuple[list[Tensor], Tensor]:
        """The layout of the transpose, and where each of its entries is among the values, int32 [active].

        A backward pass multiplies by it; it is computed by the first one, and from then on with every mask.
        """
        if self._transposed is None:
            with lasting_memory():
                self._transposed = self._transpose()
        return self._transposed

    def transposed(self, values: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The values [active] in the order of the transpose, and its layout."""
        layout, index = self.transpose
        return operators().reorder(values, index), layout

    def _transpose(self) -> tuple[list[Tensor], Tensor]:
        layout = operators().layout_of(self.mask.t().contiguous())
        return layout, self.places[operators().positions(layout, self.shape[0], True)]

    def watch(self) -> None:
        """Keep contributions to the dense gradient, from now on."""
        self.contributions = []

    def take_contributions(self) -> list[Contribution]:
        """What has been kept since `watch`; stop watching."""
        contributions, self.contributions = self.contributions or [], None
        return contributions

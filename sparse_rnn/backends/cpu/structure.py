"""Where the active entries of a weight are, and in which order its values are stored."""

from typing import Any

import torch
from torch import Tensor

from sparse_rnn.backends.cpu.memory import lasting_memory
from sparse_rnn.backends.cpu.operators import operators


class Structure:
    """The active entries of one weight [R, C]; whoever computes with the weight shares this object.

    Values are stored in blocks that the products read one after the other (csrc/blocked.h). The order belongs to this
    version of the kernels: files hold values in the order of the mask's entries.
    """

    def __init__(self, mask: Tensor) -> None:
        self.factors: list[Any] | None = None
        self._transposed: tuple[list[Tensor], Tensor] | None = None
        self.set_mask(mask)

    def set_mask(self, mask: Tensor) -> None:
        """Become the structure of another mask, bool [R, C]; values are the caller's to carry over."""
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
        """The active entries of a tensor [R, C], as they are stored, [active]."""
        return dense.flatten()[self.positions]

    def unpack(self, values: Tensor) -> Tensor:
        """Stored values [active] as a tensor [R, C], zero where inactive."""
        dense = values.new_zeros(self.shape[0] * self.shape[1])
        dense[self.positions] = values
        return dense.view(self.shape)

    @property
    def places(self) -> Tensor:
        """Where in the stored order each entry is, row-major, int32 [R * C]; `active` of those that are inactive."""
        places = torch.full((self.shape[0] * self.shape[1],), self.active, dtype=torch.int32)
        places[self.positions] = torch.arange(self.active, dtype=torch.int32)
        return places

    @property
    def transpose(self) -> tuple[list[Tensor], Tensor]:
        """The layout of the transpose, and where each of its entries is among the values, int32 [active]."""
        if self._transposed is None:
            with lasting_memory():
                self._transposed = self._transpose()
        return self._transposed

    def transposed(self, values: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The transpose: its values in its own order, and its layout."""
        layout, index = self.transpose
        return operators().reorder(values, index), layout

    def _transpose(self) -> tuple[list[Tensor], Tensor]:
        layout = operators().layout_of(self.mask.t().contiguous())
        return layout, self.places[operators().positions(layout, self.shape[0], True)]

    def watch(self) -> None:
        """Keep what the dense gradient of the coming backward can be formed from."""
        self.factors = []

    def take_factors(self) -> list[Any]:
        """What has been kept since `watch`, which ends."""
        factors, self.factors = self.factors or [], None
        return factors

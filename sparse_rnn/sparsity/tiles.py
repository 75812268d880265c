"""Groups whose positions are whole rectangles of a weight, so that every rule chooses rectangles instead of entries."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from sparse_rnn.sparsity.groups import Block, Group


@dataclass(frozen=True, slots=True)
class Tile(Block):
    """Rows and columns of a weight in tiles of one shape [height, width], each of which counts as one position.

    Of a tensor of numbers, a tile has the mean magnitude of its entries. Masks are constant in every tile.
    """

    columns: slice
    shape: tuple[int, int]

    @property
    def name(self) -> str:
        """The weight, the gate and the shape of the tiles."""
        return f"{self.weight.name}/{self.gate}{_of(self.shape)}"

    @property
    def unit(self) -> int:
        """Entries of a tile."""
        return self.shape[0] * self.shape[1]

    @property
    def width(self) -> int:
        """The number of columns."""
        return len(range(self.columns.start, self.columns.stop))

    @property
    def across(self) -> int:
        """The number of tiles side by side."""
        return self.width // self.shape[1]

    @property
    def size(self) -> int:
        """The number of tiles."""
        return len(self.row_range) // self.shape[0] * (self.width // self.shape[1])

    def of(self, tensor: Tensor) -> Tensor:
        """The mean magnitude of each tile, row by row of tiles; of a mask, whether it is active; flat [size]."""
        tiles = self._tiles(_flat(tensor))
        return tiles[:, 0, :, 0].reshape(-1) if tensor.dtype == torch.bool else tiles.abs().mean((1, 3)).reshape(-1)

    def write(self, flat: Tensor, tensor: Tensor) -> None:
        """Write a value for each tile [size] into all of its entries."""
        whole = _flat(tensor)
        tiles = self._tiles(whole)
        tiles.copy_(flat.view(len(tiles), 1, -1, 1).expand(tiles.shape))
        tensor.copy_(whole.reshape(tensor.shape))  # which changes nothing where it is the same memory

    def _tiles(self, matrix: Tensor) -> Tensor:
        """The entries as [rows of tiles, height, columns of tiles, width], without a copy."""
        height, width = self.shape
        part = matrix[self.rows, self.columns]
        return part.view(len(part) // height, height, -1, width)


def tiled(group: Group, shape: tuple[int, int]) -> list[Group]:
    """A group in tiles of `shape` [rows, columns], and one more group for each shape of the tiles that an edge cuts.

    Tiles begin at the first row of every gate and at the first column.
    """
    found: dict[tuple[int, int], list[Block]] = {}
    for block in group.blocks:
        for rows, height in _cut(block.row_range, shape[0]):
            for columns, width in _cut(range(block.width), shape[1]):
                tile = Tile(block.weight, block.gate, rows, columns, (height, width))
                found.setdefault(tile.shape, []).append(tile)
    return [Group(f"{group.name}{_of(each)}", tuple(tiles)) for each, tiles in found.items()]


def _cut(positions: range, length: int) -> Iterator[tuple[slice, int]]:
    """The part that pieces of a length fill, and the shorter rest, each with the length of its pieces."""
    middle = positions.stop - len(positions) % length
    if middle > positions.start:
        yield slice(positions.start, middle), length
    if middle < positions.stop:
        yield slice(middle, positions.stop), positions.stop - middle


def _flat(tensor: Tensor) -> Tensor:
    """A tensor as a matrix: dimensions beyond the second count as columns."""
    return tensor if tensor.dim() == 2 else tensor.reshape(len(tensor), -1)


def _of(shape: tuple[int, int]) -> str:
    return f" in {shape[0]}x{shape[1]}"

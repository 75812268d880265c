"""Groups of weights: what a method sorts, removes and grows within."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparse_rnn.sparsity.topology import SparseWeight

SCOPES = ("gate", "tensor", "cell")


@dataclass(frozen=True, slots=True)
class Block:
    """A contiguous range of rows of one weight: a gate, or the whole weight."""

    weight: SparseWeight
    gate: str
    rows: slice

    @property
    def name(self) -> str:
        """The weight and the gate."""
        return f"{self.weight.name}/{self.gate}"

    @property
    def unit(self) -> int:
        """How many entries of the weight a position stands for: one, but for tiles (see `structure`)."""
        return 1

    @property
    def row_range(self) -> range:
        """The rows."""
        return range(self.weight.shape[0])[self.rows]

    @property
    def width(self) -> int:
        """The number of columns; dimensions beyond the second count as columns."""
        return math.prod(self.weight.shape[1:])

    @property
    def across(self) -> int:
        """The number of positions side by side."""
        return self.width

    @property
    def size(self) -> int:
        """Number of positions."""
        return len(self.row_range) * self.width

    def of(self, tensor: Tensor) -> Tensor:
        """This block's entries of a tensor shaped like the weight, flat [size]."""
        return tensor[self.rows].reshape(-1)

    def write(self, flat: Tensor, tensor: Tensor) -> None:
        """Write a flat vector [size] into this block's entries of a tensor shaped like the weight."""
        target = tensor[self.rows]
        target.copy_(flat.reshape(target.shape))


@dataclass(frozen=True)
class Group:
    """Blocks that compete with each other, seen as one flat vector in the order of `blocks`."""

    name: str
    blocks: tuple[Block, ...]
    size: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "size", sum(block.size for block in self.blocks))

    @property
    def unit(self) -> int:
        """How many entries each position stands for."""
        return self.blocks[0].unit

    def gather(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """The group's entries of tensors by weight name, flat [size]."""
        parts = [block.of(tensors[block.weight.name]) for block in self.blocks]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    @property
    def values(self) -> Tensor:
        """Weights, flat [size], without gradient."""
        return self.gather({weight.name: weight.values for weight in self._weights})

    @property
    def active(self) -> Tensor:
        """Which entries are active, bool [size]."""
        return self.gather({weight.name: weight.mask for weight in self._weights})

    @property
    def _weights(self) -> list[SparseWeight]:
        return list({block.weight.name: block.weight for block in self.blocks}.values())

    def scatter(self, flat: Tensor, into: Mapping[str, Tensor]) -> None:
        """Write a flat vector [size] into the group's entries of tensors by weight name."""
        for block, part in zip(self.blocks, torch.split(flat, [b.size for b in self.blocks]), strict=True):
            block.write(part, into[block.weight.name])

    def split(self) -> "list[Group]":
        """Each block as a group of its own, so one group per gate."""
        return [Group(b.name, (b,)) for b in self.blocks]


def groups_of(topology: Iterable[SparseWeight], scope: str) -> list[Group]:
    """The groups of some weights. `scope` decides for recurrent weights; every other weight is one group.

    gate: every gate on its own. tensor: all gates of a tensor, so input and recurrent weights are separate.
    cell: all gates of all tensors of a cell (Selfish-RNN Eq. 4 to the letter).
    """
    groups: list[Group] = []
    cells: dict[str, list[Block]] = {}
    for weight in topology:
        blocks = tuple(Block(weight, gate, rows) for gate, rows in weight.gates.items())
        if weight.cell is not None and scope == "cell":
            cells.setdefault(weight.cell, []).extend(blocks)
        elif weight.cell is not None and scope == "gate":
            groups += Group(weight.name, blocks).split()
        else:
            groups.append(Group(weight.name, blocks))
    return groups + [Group(cell, tuple(blocks)) for cell, blocks in cells.items()]


def whole_of(topology: Iterable[SparseWeight]) -> Group:
    """All sparse weights of a network as one group."""
    return Group("network", tuple(block for group in groups_of(topology, "tensor") for block in group.blocks))

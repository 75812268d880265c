"""Structures: which patterns of active entries a topology may have, whatever the method that moves them.

A structure takes part in three places of the Sparsifier: it says what the positions of a group are, draws the first
mask of a group, and grows what an update has removed. So a method keeps its rules, and the counts stay exact.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import ClassVar

import torch
from torch import Tensor

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import register
from sparse_rnn.sparsity.groups import Block, Group
from sparse_rnn.sparsity.rules.growth import GrowthRule, Ordered, Signals
from sparse_rnn.sparsity.rules.schedule import RemovalSchedule
from sparse_rnn.sparsity.selection import select_smallest, select_within
from sparse_rnn.sparsity.tiles import tiled

Key = tuple[object, ...]
ROUNDING = 1e-9  # of a density that was computed from a sparsity


@dataclass(frozen=True)
class Regrowth:
    """A group that is to grow, where a removal has left `kept` of `before`, bool [group.size] each.

    count: how many shall grow. density: the one asked for, where the schedule prunes. signals, key: those of the growth
    rule.
    """

    group: Group
    before: Tensor
    kept: Tensor
    count: int
    density: float | None
    signals: Signals
    key: Key

    def chosen(self, rule: GrowthRule) -> Tensor:
        """What a rule chooses from the whole group, bool [group.size]."""
        return rule(self.group, ~self.kept, self.count, self.signals, self.key)


@register("structure", "unstructured")
@dataclass(frozen=True)
class Unstructured:
    """Any entry may be active.

    constant: whether the number of active entries of every unit is fixed, so that none may move between units.
    """

    constant: ClassVar[bool] = False

    def groups(self, group: Group) -> list[Group]:
        """What takes the place of a group, with positions that may be chosen one by one."""
        return [group]

    def counts(self, groups: Sequence[Group], counts: Sequence[int]) -> list[int]:
        """The numbers of active positions that the structure allows, nearest to `counts`. Raises ConfigError."""
        return list(counts)

    def kept(self, groups: Sequence[Group], schedule: RemovalSchedule, progress: float) -> list[int]:
        """The active positions of each group after an update, where the schedule prunes."""
        sizes = [group.size for group in groups]
        return [n - gone for n, gone in zip(sizes, schedule.excess(sizes, sizes, progress), strict=True)]

    def draw(self, group: Group, order: Tensor, count: int) -> Tensor:
        """A first mask, bool [group.size], of the `count` positions that come first in `order` [group.size]."""
        return select_smallest(order, torch.ones_like(order, dtype=torch.bool), count)

    def refill(self, rule: GrowthRule, at: Regrowth) -> tuple[Tensor, Tensor]:
        """What stays active and what grows, bool [group.size] each."""
        return at.kept, at.chosen(rule)


@register("structure", "block")
@dataclass(frozen=True)
class Blocks(Unstructured):
    """Rectangles of `block` [rows, columns] that are active or inactive as a whole (Narang et al. 2017).

    Every rule reads the mean |w| or |g| of a rectangle, and chooses rectangles. They begin at the first row of each
    gate and the first column; a rectangle that an edge cuts is exchanged for others with as many entries. The number of
    active rectangles of each size is exact.
    """

    block: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.block) != 2 or min(self.block) < 1:
            raise ConfigError(
                "sparsifier.structure=block needs a number of rows and one of columns, as in sparsifier.block=[8,1]."
            )

    def groups(self, group: Group) -> list[Group]:
        """The group in rectangles, and groups of those that an edge cuts."""
        return tiled(group, (self.block[0], self.block[1]))


class ConstantUnits(Unstructured):
    """Base of structures whose units always have as many active entries as others: each regains what it lost.

    A unit is a row, or `length` neighbours in it. Removal chooses from the whole group, as without a structure; growth
    chooses in every unit by the rule's `order`. Where the schedule prunes, every unit first loses its smallest |w| down
    to the density asked for.
    """

    constant = True

    @property
    def length(self) -> int | None:
        """Entries of a unit, of which the last one of a row may have fewer; None for the whole row."""
        return None

    def capacity(self, size: int, density: float) -> int:
        """Active entries of a unit with `size` entries, in a group that is to have this density."""
        raise NotImplementedError

    def counts(self, groups: Sequence[Group], counts: Sequence[int]) -> list[int]:
        """What the units of each group may have together. Raises ConfigError."""
        return [self._count(group, count / group.size) for group, count in zip(groups, counts, strict=True)]

    def kept(self, groups: Sequence[Group], schedule: RemovalSchedule, progress: float) -> list[int]:
        """What the units of each group have at the density asked for."""
        return [self._count(group, 1.0 - schedule.sparsity(progress)) for group in groups]

    def _count(self, group: Group, density: float) -> int:
        if density >= 1.0:
            return group.size
        return sum(self._of_row(block, density) * len(block.row_range) for block in group.blocks)

    def _of_row(self, block: Block, density: float) -> int:
        full, rest = divmod(block.width, self.length or block.width)
        return full * self.capacity(self.length or block.width, density) + self.capacity(rest, density)

    def draw(self, group: Group, order: Tensor, count: int) -> Tensor:
        """The entries of every unit that come first."""
        units = Units(group, self.length)
        counts = self._capacities(units, count / group.size)
        return units.flat(select_within(units.arranged(order), units.inside, counts, ("draw", group.name)))

    def _capacities(self, units: "Units", density: float) -> Tensor:
        """The active entries of each unit, int64 [units]."""
        counts = units.inside.sum(1)
        if density >= 1.0:
            return counts
        sizes, kinds = torch.unique(counts, return_inverse=True)
        shares = [self.capacity(size, density) for size in sizes.tolist()]
        return torch.tensor(shares, device=counts.device)[kinds]

    def excess(self, group: Group, density: float, key: Key) -> Tensor:
        """What every unit has beyond this density, bool [group.size]: its entries of the smallest |w|."""
        units = Units(group, self.length)
        active = units.arranged(group.active)
        beyond = (active.sum(1) - self._capacities(units, density)).clamp(min=0)
        return units.flat(select_within(units.arranged(group.values.abs()), active, beyond, (*key, group.name)))

    def refill(self, rule: GrowthRule, at: Regrowth) -> tuple[Tensor, Tensor]:
        """Every unit grows as many entries as it lost or, where the schedule prunes, as it lacks."""
        units = Units(at.group, self.length)
        counts = units.arranged(at.before).sum(1) if at.density is None else self._capacities(units, at.density)
        return at.kept, self._grown(units, rule, at, at.kept, counts)

    def _grown(self, units: "Units", rule: GrowthRule, at: Regrowth, kept: Tensor, counts: Tensor) -> Tensor:
        """What grows beside `kept`, bool [group.size], so that every unit has as many active entries as in `counts`."""
        assert isinstance(rule, Ordered)
        stay = units.arranged(kept)
        order = units.arranged(rule.order(at.group, at.signals))
        return units.flat(select_within(order, units.inside & ~stay, counts - stay.sum(1), (*at.key, at.group.name)))


@register("structure", "n_m")
@dataclass(frozen=True)
class NOfM(ConstantUnits):
    """N of every M neighbours in a row are active, so along the input of a layer (Mishra et al. 2021).

    Where M does not divide the row, the last r < M entries of it have N r / M active ones, rounded up: so a single last
    input keeps its weights, and every row fits the pattern once it is filled up with zeros.
    """

    n: int
    m: int

    def __post_init__(self) -> None:
        if not 0 < self.n < self.m:
            raise ConfigError("sparsifier.structure=n_m needs 0 < n < m, as in sparsifier.n=2 sparsifier.m=4.")

    @property
    def sparsity(self) -> float:
        """The sparsity of every weight whose rows M divides."""
        return 1 - self.n / self.m

    @property
    def length(self) -> int | None:
        """M."""
        return self.m

    def counts(self, groups: Sequence[Group], counts: Sequence[int]) -> list[int]:
        """N of M, or all of a group that is to be dense."""
        first = [1.0 if count == group.size else 0.0 for group, count in zip(groups, counts, strict=True)]
        return [self._count(group, density) for group, density in zip(groups, first, strict=True)]

    def draw(self, group: Group, order: Tensor, count: int) -> Tensor:
        """N of M, or all of a group that is to be dense."""
        return super().draw(group, order, group.size if count == group.size else 0)

    def capacity(self, size: int, density: float) -> int:
        """N of M entries, or the density's share if that is more, and as large a share of fewer, rounded up."""
        return max(-(-self.n * size // self.m), ceil(size * density - ROUNDING))


@register("structure", "fan_in")
@dataclass(frozen=True)
class FanIn(ConstantUnits):
    """Every row of a weight has as many active entries as the others, k: a constant fan-in (SRigL, Lasby et al. 2024).

    k is the whole number nearest to the density of the weight, or of the gate with scope=gate, times its columns.

    ablation: if it is not 0, rows of recurrent weights with few salient weights lose them all (gamma_sal). Salient is
    what removal leaves, and what growth would choose from the whole group; few is less than ablation * k, or none. At
    each update the other rows share all active weights, as equally as whole numbers can be; a row may come back.
    """

    ablation: float

    def __post_init__(self) -> None:
        if not 0 <= self.ablation < 1:
            raise ConfigError(f"sparsifier.ablation={self.ablation} must lie in [0, 1).")

    def refill(self, rule: GrowthRule, at: Regrowth) -> tuple[Tensor, Tensor]:
        """Every row grows as many entries as it lost; with ablation, as many as it lacks of its new share."""
        group, key = at.group, (*at.key, at.group.name)
        if not self.ablation or group.blocks[0].weight.cell is None:
            return super().refill(rule, at)
        units = Units(group, self.length)
        salient = units.arranged(at.kept | at.chosen(rule)).sum(1)
        fan_in = self._shared(salient, int(at.before.count_nonzero()), units.length, key)
        stay = units.arranged(at.kept)
        excess = (stay.sum(1) - fan_in).clamp(min=0)
        stay &= ~select_within(units.arranged(group.values.abs()), stay, excess, key)
        left = units.flat(stay)
        return left, self._grown(units, rule, at, left, fan_in)

    def _shared(self, salient: Tensor, total: int, width: int, key: Key) -> Tensor:
        """How many of `total` active entries each row gets, int64 [rows]; salient: the salient entries of each."""
        rows = len(salient)
        live = salient >= max(1.0, self.ablation * total / rows)
        fewest = -(-total // width)  # rows, which then are dense
        if int(live.count_nonzero()) < fewest:
            live = select_smallest(-salient, torch.ones_like(live), fewest, key)
        each, rest = divmod(total, int(live.count_nonzero()))
        return each * live + select_smallest(-salient, live, rest, key)

    def capacity(self, size: int, density: float) -> int:
        """k of a row of `size` entries."""
        k = round(size * density)
        if size and not k:
            raise ConfigError(
                f"sparsifier.structure=fan_in: a density of {density:.4f} leaves a row of {size} weights none of them: "
                "lower sparsifier.sparsity."
            )
        return k


class Units:
    """The entries of a group in units of `length` neighbours in a row, the last of which may be shorter.

    Without a length, a unit is a whole row. Arranged tensors are [units, length], filled up with zeros where a unit is
    shorter. inside: bool, arranged, where there is an entry.
    """

    def __init__(self, group: Group, length: int | None) -> None:
        self._blocks = group.blocks
        self.length = length or max(block.width for block in group.blocks)
        self.inside = self.arranged(torch.ones_like(group.active))

    def arranged(self, flat: Tensor) -> Tensor:
        """A vector of the group [group.size], arranged."""
        parts = torch.split(flat, [block.size for block in self._blocks])
        return torch.cat([self._padded(block, part) for block, part in zip(self._blocks, parts, strict=True)])

    def flat(self, arranged: Tensor) -> Tensor:
        """The inverse of `arranged`."""
        sizes = [len(block.row_range) * self._units_of_row(block) for block in self._blocks]
        parts = zip(self._blocks, torch.split(arranged, sizes), strict=True)
        rows = (part.reshape(len(block.row_range), -1)[:, : block.width] for block, part in parts)
        return torch.cat([each.reshape(-1) for each in rows])

    def _units_of_row(self, block: Block) -> int:
        return -(-block.width // self.length)

    def _padded(self, block: Block, flat: Tensor) -> Tensor:
        rows = flat.view(-1, block.width)
        padded = rows.new_zeros(len(rows), self._units_of_row(block) * self.length)
        padded[:, : block.width] = rows
        return padded.view(-1, self.length)

"""Removal rules: which active weights become inactive.

With every rule, a removed weight may grow again in the same update, from value zero and with fresh optimizer state
(`protocol=official_code` keeps both). A rule reads weights and what its `needs` name; no rule reads dense gradients.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from sparse_rnn.core.random import position_keys
from sparse_rnn.core.registry import register
from sparse_rnn.sparsity.groups import Group
from sparse_rnn.sparsity.rules.growth import Signal, Signals
from sparse_rnn.sparsity.selection import apportion, select_smallest, select_weighted
from sparse_rnn.sparsity.topology import SparseTopology, pack_bits, unpack_bits


@dataclass(frozen=True)
class RemovalSettings:
    """What a removal rule is made from.

    gradient_weight: of |gradient| beside |w|, for magnitude_gradient. temperature: at the end of training, for
    magnitude_soft.
    """

    gradient_weight: float = 0.01
    temperature: float = 9.0


@dataclass(frozen=True)
class Moment:
    """What a rule may read of an update besides the group.

    signals: what `needs` names, as tensors by weight name. key: what a random choice may depend on, together with the
    group's name. progress: the share of training that is done, in [0, 1].
    """

    signals: Signals = field(default_factory=dict)
    key: tuple[object, ...] = ()
    progress: float = 0.0


class RemovalRule(Protocol):
    """Marks exactly `count` active entries of a group, as bool [group.size] or, where not `exact`, its own number."""

    needs: ClassVar[frozenset[Signal]]
    exact: ClassVar[bool]

    def __call__(self, group: Group, count: int, at: Moment) -> Tensor: ...

    def begin(self, topology: SparseTopology, seed: int) -> None:
        """Called once, when the first topology is drawn."""

    def finish(self, removed: int, asked: int) -> None:
        """Called once per update, with the totals over all groups."""

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: dict[str, Any]) -> None: ...


class Stateless:
    """Base of removal rules that keep nothing between updates."""

    needs: ClassVar[frozenset[Signal]] = frozenset()
    exact: ClassVar[bool] = True

    def __init__(self, settings: RemovalSettings | None = None) -> None:
        self.settings = settings or RemovalSettings()

    def begin(self, topology: SparseTopology, seed: int) -> None:
        """There is nothing to remember."""

    def finish(self, removed: int, asked: int) -> None:
        """There is nothing to adapt to the totals."""

    def state_dict(self) -> dict[str, Any]:
        """An empty state."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """There is nothing to restore."""


@register("removal", "magnitude")
class Magnitude(Stateless):
    """The smallest |w| of the group (Selfish-RNN Eq. 2, or Eq. 4 if the group spans gates)."""

    def __call__(self, group: Group, count: int, at: Moment) -> Tensor:
        return select_smallest(group.values.abs(), group.active, count)


@register("removal", "set")
class SignedMagnitude(Stateless):
    """SET's own rule: the smallest positive weights and the negative weights closest to zero.

    Each side loses a part of `count` in proportion to its number (Mocanu et al. 2018, zeta of each side). A weight of
    exactly zero counts as positive.
    """

    def __call__(self, group: Group, count: int, at: Moment) -> Tensor:
        values, active = group.values, group.active
        sides = active & (values >= 0), active & (values < 0)
        sizes = [int(side.count_nonzero()) for side in sides]
        counts = apportion(count, sizes, sizes)
        magnitude = values.abs()
        return select_smallest(magnitude, sides[0], counts[0]) | select_smallest(magnitude, sides[1], counts[1])


@register("removal", "magnitude_gradient")
class MagnitudeAndGradient(Stateless):
    """The smallest |w| + lambda |g|, g the gradient of the last minibatch before clipping (MEST, Yuan et al. 2021).

    Only active entries have an importance: no dense gradient is read.
    """

    needs: ClassVar[frozenset[Signal]] = frozenset({"active_gradient"})

    def __call__(self, group: Group, count: int, at: Moment) -> Tensor:
        gradient = group.gather(at.signals["active_gradient"]).abs()
        return select_smallest(group.values.abs() + self.settings.gradient_weight * gradient, group.active, count)


@register("removal", "magnitude_soft")
class SoftMagnitude(Stateless):
    """The weights that stay are drawn one by one, in proportion to |w|^T; the others go (CHTs, Zhang et al. 2025).

    T rises in a straight line from 1 to the setting `temperature`: removal becomes that by magnitude.
    """

    def __call__(self, group: Group, count: int, at: Moment) -> Tensor:
        active = group.active
        temperature = 1 + (self.settings.temperature - 1) * at.progress
        log_odds = group.values.abs().double().log() * temperature
        kept = int(active.count_nonzero()) - count
        return active & ~select_weighted(log_odds, active, kept, *at.key, "removal", group.name)


@register("removal", "sign_flip")
class SignFlip(Stateless):
    """Every weight whose sign is not the one that was assigned to its position, however many that are (DeepR, Bellec et
    al. 2018, Algorithm 1).

    The first active weights are assigned their own signs, all other positions random ones that never change, as in the
    authors' code. A weight of exactly zero has not flipped yet. Memory: one byte an entry; a checkpoint has one bit.
    """

    exact: ClassVar[bool] = False

    def begin(self, topology: SparseTopology, seed: int) -> None:
        """Assign the signs."""
        self._positive: Mapping[str, Tensor] = {
            weight.name: torch.where(
                weight.mask, weight.values >= 0, _random_bits(weight.mask, seed, "sign", weight.name)
            )
            for weight in topology
        }

    def __call__(self, group: Group, count: int, at: Moment) -> Tensor:
        values, positive = group.values, group.gather(self._positive)
        return group.active & torch.where(positive, values < 0, values > 0)

    def state_dict(self) -> dict[str, Any]:
        """The signs as packed bits."""
        return {name: pack_bits(positive) for name, positive in self._positive.items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the signs."""
        self._positive = {
            name: unpack_bits(state[name].to(own.device), own.shape) for name, own in self._positive.items()
        }


@register("removal", "reserve")
class OutsideTopK(Stateless):
    """Every active weight that is not among the K largest |value| of the group and its reserve together, K being the
    number of active weights (Top-KAST, Jayakumar et al. 2020). Its value goes to the reserve.
    """

    needs: ClassVar[frozenset[Signal]] = frozenset({"reserve"})
    exact: ClassVar[bool] = False

    def __call__(self, group: Group, count: int, at: Moment) -> Tensor:
        active = group.active
        largest = torch.where(active, group.values, group.gather(at.signals["reserve"])).abs()
        rest = group.size - int(active.count_nonzero())
        return active & select_smallest(largest, torch.ones_like(active), rest)


def _random_bits(like: Tensor, *key: object) -> Tensor:
    """Random bits of the shape of a tensor, bool."""
    positions = torch.arange(like.numel(), device=like.device)
    return (position_keys(positions, *key) < 0).reshape(like.shape)


@register("removal", "threshold")
class AdaptiveThreshold(Stateless):
    """DSR: every active |w| below one global threshold H, however many that are (Mostafa & Wang 2019).

    H starts at 1e-3. It doubles after an update that removed less than 0.9 of the number asked for, and halves after
    one that removed more than 1.1 of it. At least one weight of every group stays.
    """

    exact: ClassVar[bool] = False
    tolerance = 0.1

    def __init__(self, settings: RemovalSettings | None = None) -> None:
        super().__init__(settings)
        self.threshold = 1e-3

    def __call__(self, group: Group, count: int, at: Moment) -> Tensor:
        magnitude, active = group.values.abs(), group.active
        below = active & (magnitude < self.threshold)
        if bool(active.any()) and bool((below == active).all()):
            below[torch.where(active, magnitude, -1.0).argmax()] = False
        return below

    def finish(self, removed: int, asked: int) -> None:
        """Adapt H to the totals of the update."""
        if removed < (1 - self.tolerance) * asked:
            self.threshold *= 2
        elif removed > (1 + self.tolerance) * asked:
            self.threshold /= 2

    def state_dict(self) -> dict[str, Any]:
        """The threshold H."""
        return {"threshold": self.threshold}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the threshold H."""
        self.threshold = state["threshold"]

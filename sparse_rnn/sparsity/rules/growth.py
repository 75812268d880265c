"""Growth rules: which inactive weights become active.

A rule is a dataclass whose fields are its configuration; `needs` names the dense signals that it reads, which the
Sparsifier keeps: `gradient` of the last minibatch, `momentum` over all of them, `activations`, the co-activation of
each weight's two ends in the last minibatch (see sparsity.coactivation), `active_gradient`, the gradient of the last
minibatch where a weight is active, and `reserve`, values of inactive entries that are trained outside the forward pass
(see sparsity.reserve). To add a rule, add a class here and a YAML file of its name in conf/growth.

With every rule, a weight that was just removed may grow again, and a grown weight starts at zero with fresh optimizer
state. Under `protocol=official_code`, a weight that regrows in the update that removed it keeps value and state.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, get_args, runtime_checkable

import torch
from torch import Tensor

from sparse_rnn.core.bounds import check_whole
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import register
from sparse_rnn.sparsity.groups import Group
from sparse_rnn.sparsity.selection import select_random, select_smallest

Signal = Literal["gradient", "momentum", "activations", "active_gradient", "reserve"]
SIGNALS: tuple[Signal, ...] = get_args(Signal)
EVERY_STEP: frozenset[Signal] = frozenset({"momentum", "reserve"})  # the others only in a step before an update
DENSE_GRADIENTS: frozenset[Signal] = EVERY_STEP | {"gradient"}  # need the gradients of inactive entries
Signals = Mapping[Signal, Mapping[str, Tensor]]


@runtime_checkable
class Ordered(Protocol):
    """A growth rule that ranks positions, so that it can choose within units too (see sparsity.structure).

    order: [group.size]; what is lower grows first, and among equals the choice is drawn.
    """

    def order(self, group: Group, signals: Signals) -> Tensor: ...


class GrowthRule(Protocol):
    """Marks exactly `count` of the candidates of a group, as bool [group.size].

    candidates: bool [group.size], the inactive entries, including those just removed. signals: what `needs` names, as
    tensors by weight name. key: what a random choice may depend on, together with the group's name.
    """

    name: str
    needs: ClassVar[frozenset[Signal]]

    def __call__(
        self, group: Group, candidates: Tensor, count: int, signals: Signals, key: tuple[object, ...]
    ) -> Tensor: ...


@register("growth", "none")
@dataclass
class NoGrowth:
    """Nothing grows: for dense, static and pruned networks. Raises ValueError if something should."""

    name: str = "none"
    needs: ClassVar[frozenset[Signal]] = frozenset()

    def __call__(
        self, group: Group, candidates: Tensor, count: int, signals: Signals, key: tuple[object, ...]
    ) -> Tensor:
        if count:
            raise ValueError("growth=none cannot grow weights")
        return candidates.new_zeros(candidates.shape)


@register("growth", "random")
@dataclass
class RandomGrowth:
    """Every inactive entry is equally likely to grow (Selfish-RNN Eq. 3); no gradient is read."""

    name: str = "random"
    needs: ClassVar[frozenset[Signal]] = frozenset()

    def __call__(
        self, group: Group, candidates: Tensor, count: int, signals: Signals, key: tuple[object, ...]
    ) -> Tensor:
        return select_random(candidates, count, *key, group.name)

    def order(self, group: Group, signals: Signals) -> Tensor:
        """All are equal."""
        return torch.zeros(group.size, device=group.active.device)


@register("growth", "gradient")
@dataclass
class GradientGrowth:
    """Largest |gradient| first, of the last minibatch's dense gradient (RigL, Evci et al. 2020); ties are drawn.

    minibatches: how many the gradient is summed over, at most all since the last update. More than one take four bytes
    of memory for each entry of a sparse weight, from the first of them until the update.
    """

    name: str = "gradient"
    minibatches: int = 1
    needs: ClassVar[frozenset[Signal]] = frozenset({"gradient"})

    def __post_init__(self) -> None:
        check_whole("growth.minibatches", self.minibatches, 1)

    def __call__(
        self, group: Group, candidates: Tensor, count: int, signals: Signals, key: tuple[object, ...]
    ) -> Tensor:
        return select_smallest(self.order(group, signals), candidates, count, (*key, group.name))

    def order(self, group: Group, signals: Signals) -> Tensor:
        """-|gradient|."""
        return -group.gather(signals["gradient"]).abs()


@register("growth", "momentum")
@dataclass
class MomentumGrowth:
    """Largest |m| first, m <- beta m + g over dense gradients (SNFS, Dettmers & Zettlemoyer 2019); ties are drawn.

    beta: the share of m that a step keeps.
    """

    name: str = "momentum"
    beta: float = 0.9
    needs: ClassVar[frozenset[Signal]] = frozenset({"momentum"})

    def __post_init__(self) -> None:
        if not 0 <= self.beta < 1:
            raise ConfigError(f"growth.beta={self.beta} must lie in [0, 1).")

    def __call__(
        self, group: Group, candidates: Tensor, count: int, signals: Signals, key: tuple[object, ...]
    ) -> Tensor:
        return select_smallest(self.order(group, signals), candidates, count, (*key, group.name))

    def order(self, group: Group, signals: Signals) -> Tensor:
        """-|m|."""
        return -group.gather(signals["momentum"]).abs()


@register("growth", "reserve")
@dataclass
class ReserveGrowth:
    """Largest |value| in the reserve first, from which the weight goes on (Top-KAST, Jayakumar et al. 2020)."""

    name: str = "reserve"
    needs: ClassVar[frozenset[Signal]] = frozenset({"reserve"})

    def __call__(
        self, group: Group, candidates: Tensor, count: int, signals: Signals, key: tuple[object, ...]
    ) -> Tensor:
        return select_smallest(self.order(group, signals), candidates, count, (*key, group.name))

    def order(self, group: Group, signals: Signals) -> Tensor:
        """-|value|."""
        return -group.gather(signals["reserve"]).abs()

"""Growth rules: which inactive weights become active.

A rule is a dataclass whose fields are its configuration; `needs` names the dense signals it reads, which the
Sparsifier keeps. Add a rule here and a YAML of its name in conf/growth.
Of every rule: a just-removed weight may be grown again; a grown weight starts at value zero with fresh optimizer
state (under `protocol=official_code` one regrown in the update that removed it keeps both).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

from torch import Tensor

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import register
from sparse_rnn.sparsity.groups import Group
from sparse_rnn.sparsity.selection import select_random, select_smallest

Signal = Literal["gradient", "momentum"]
Signals = Mapping[Signal, Mapping[str, Tensor]]


class GrowthRule(Protocol):
    """Marks exactly `count` of the candidates of a group, as bool [group.size].

    candidates: bool [group.size], the inactive entries. key: what a random choice may depend on.
    """

    name: str
    needs: ClassVar[frozenset[Signal]]

    def __call__(
        self, group: Group, candidates: Tensor, count: int, signals: Signals, key: tuple[object, ...]
    ) -> Tensor: ...


@register("growth", "none")
@dataclass
class NoGrowth:
    """Nothing grows: for dense, static and pruned networks."""

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
    """Each inactive entry equally likely (Selfish-RNN Eq. 3). Reads no gradient."""

    name: str = "random"
    needs: ClassVar[frozenset[Signal]] = frozenset()

    def __call__(
        self, group: Group, candidates: Tensor, count: int, signals: Signals, key: tuple[object, ...]
    ) -> Tensor:
        return select_random(candidates, count, *key, group.name)


@register("growth", "gradient")
@dataclass
class GradientGrowth:
    """The largest |gradient| (RigL, Evci et al. 2020), the dense gradient of the last minibatch; ties are drawn."""

    name: str = "gradient"
    needs: ClassVar[frozenset[Signal]] = frozenset({"gradient"})

    def __call__(
        self, group: Group, candidates: Tensor, count: int, signals: Signals, key: tuple[object, ...]
    ) -> Tensor:
        return select_smallest(-group.gather(signals["gradient"]).abs(), candidates, count, (*key, group.name))


@register("growth", "momentum")
@dataclass
class MomentumGrowth:
    """The largest |momentum| of the dense gradient, m <- beta m + g (SNFS, Dettmers & Zettlemoyer 2019)."""

    name: str = "momentum"
    beta: float = 0.9
    needs: ClassVar[frozenset[Signal]] = frozenset({"momentum"})

    def __post_init__(self) -> None:
        if not 0 <= self.beta < 1:
            raise ConfigError(f"growth.beta={self.beta} must lie in [0, 1).")

    def __call__(
        self, group: Group, candidates: Tensor, count: int, signals: Signals, key: tuple[object, ...]
    ) -> Tensor:
        return select_smallest(-group.gather(signals["momentum"]).abs(), candidates, count, (*key, group.name))

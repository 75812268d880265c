"""A growth rule that asks for activations, as somebody may add one."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from sparse_rnn.sparsity.groups import Group
from sparse_rnn.sparsity.rules.growth import Signal, Signals
from sparse_rnn.sparsity.selection import select_smallest


@dataclass
class CoactiveGrowth:
    """Largest |co-activation| first."""

    name: str = "coactive"
    needs: ClassVar[frozenset[Signal]] = frozenset({"activations"})

    def __call__(
        self, group: Group, candidates: Tensor, count: int, signals: Signals, key: tuple[object, ...]
    ) -> Tensor:
        return select_smallest(-group.gather(signals["activations"]).abs(), candidates, count, (*key, group.name))

"""Sparse weights stored as their active values alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_rnn.backends.cpu.memory import lasting_memory
from sparse_rnn.sparsity.optimizer_state import carry_entries

if TYPE_CHECKING:
    from sparse_rnn.backends.cpu.structure import Structure


class Packed:
    """The values of active entries alone, [active], in the order of a structure of the kernels."""

    def __init__(self, structure: "Structure") -> None:
        self.structure = structure
        self._open: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        return torch.Size(self.structure.shape)

    @property
    def active(self) -> int:
        return self.structure.active if self._open is None else int(self._open.count_nonzero())

    @property
    def mask(self) -> Tensor:
        return self.structure.mask if self._open is None else self._open

    @contextmanager
    def opened(self) -> Iterator[None]:
        with lasting_memory():
            self._open = self.structure.mask
            try:
                yield
            finally:
                self._open = None

    def set_mask(self, mask: Tensor, parameter: nn.Parameter, optimizer: Optimizer | None) -> None:
        places = self.structure.places
        self.structure.set_mask(mask)
        source = places[self.structure.positions]
        del places

        def carry(stored: Tensor) -> Tensor:
            """Stored values in the new order; zero where there were none."""
            return torch.cat([stored, stored.new_zeros(1)]).index_select(0, source)

        if optimizer is not None:
            carry_entries(optimizer, parameter, carry)
        carried = carry(parameter.data)
        # A change of type alone makes autograd forget the old length, while a graph of the last step is alive.
        parameter.data = carried.new_empty(0, dtype=torch.float16)
        parameter.data = carried
        parameter.grad = None

    def dense(self, stored: Tensor) -> Tensor:
        return self.structure.unpack(stored)

    def stored(self, dense: Tensor) -> Tensor:
        return self.structure.pack(dense)

    def saved(self, stored: Tensor) -> Tensor:
        return self.structure.unpack(stored)[self.structure.mask]

    def clear(self, stored: Tensor) -> None:
        pass

    def watch(self) -> None:
        self.structure.watch()

    def gradient(self, parameter: nn.Parameter) -> "FactoredGradient":
        if self.structure.factors is None:
            raise RuntimeError("call sparsifier.before_backward() before the backward whose gradients are to be read")
        return FactoredGradient(self.shape, parameter.dtype, self.structure.take_factors())


class FactoredGradient:
    """A gradient that can be formed from what the kernels have kept of the backward passes."""

    def __init__(self, shape: torch.Size, dtype: torch.dtype, factors: Sequence[Any]) -> None:
        self._shape, self._dtype, self._factors = shape, dtype, factors

    def form(self) -> Tensor:
        formed = torch.zeros(self._shape, dtype=self._dtype)
        self.add_to(formed)
        return formed

    def add_to(self, total: Tensor) -> None:
        for factor in self._factors:
            factor.add_to(total)

    def kept(self) -> "FactoredGradient":
        return self

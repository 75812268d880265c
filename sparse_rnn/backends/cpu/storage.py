"""Sparse weights stored as their active values alone."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_rnn.backends.cpu.memory import lasting_memory
from sparse_rnn.backends.cpu.structure import Contribution, Structure
from sparse_rnn.sparsity.optimizer_state import carry_entries


class Packed:
    """The values of active entries alone, [active], in the order of a structure; the `Storage` of the kernels.

    The parameter, its gradient and its optimizer state are then all of this shape.
    """

    def __init__(self, structure: Structure) -> None:
        self.structure = structure
        self._open: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        return torch.Size(self.structure.shape)

    @property
    def stored_shape(self) -> torch.Size:
        return torch.Size([self.structure.active])

    @property
    def device(self) -> torch.device:
        return self.structure.layout[3].device

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
        # For each entry of the new order: where it was in the old one. Entries that are new are at `active`, one past
        # the last old value, where `carry` puts a zero. So one index serves the values and all optimizer state.
        places = self.structure.places
        self.structure.set_mask(mask)
        source = places[self.structure.positions]
        del places

        def carry(stored: Tensor) -> Tensor:
            """Stored values in the new order; zero where an entry is new."""
            return torch.cat([stored, stored.new_zeros(1)]).index_select(0, source)

        if optimizer is not None:
            carry_entries(optimizer, parameter, carry)
        assign(parameter, carry(parameter.data))

    def dense(self, stored: Tensor) -> Tensor:
        return self.structure.unpack(stored)

    def stored(self, dense: Tensor) -> Tensor:
        return self.structure.pack(dense)

    def saved(self, stored: Sequence[Tensor]) -> list[Tensor]:
        mask = self.structure.mask
        return [self.structure.unpack(tensor)[mask] for tensor in stored]

    def clear(self, stored: Tensor) -> None:
        pass

    def outside(self, stored: Tensor) -> int:
        return 0

    def watch(self) -> None:
        self.structure.watch()

    def gradient(self, parameter: nn.Parameter) -> "ContributedGradient":
        if self.structure.contributions is None:
            raise RuntimeError("call sparsifier.before_backward() before the backward whose gradients are to be read")
        return ContributedGradient(self.shape, parameter.dtype, self.structure.take_contributions())


def assign(parameter: nn.Parameter, stored: Tensor) -> None:
    """Let a parameter hold a tensor of another shape; its gradient goes."""
    # Autograd remembers a parameter's shape while a graph of the last step is alive, and would refuse gradients of the
    # new shape. Assigning data of another type makes it forget: hence an empty float16 tensor in between.
    parameter.data = stored.new_empty(0, dtype=torch.float16)
    parameter.data = stored
    parameter.grad = None


class ContributedGradient:
    """A dense gradient that is formed when it is read, from what products have kept of the backward passes."""

    def __init__(self, shape: torch.Size, dtype: torch.dtype, contributions: Sequence[Contribution]) -> None:
        self._shape, self._dtype, self._contributions = shape, dtype, contributions

    def form(self) -> Tensor:
        formed = torch.zeros(self._shape, dtype=self._dtype)
        self.add_to(formed)
        return formed

    def add_to(self, total: Tensor) -> None:
        for contribution in self._contributions:
            contribution.add_to(total)

    def kept(self) -> "ContributedGradient":
        return self

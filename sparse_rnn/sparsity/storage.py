"""How a sparse weight is stored: what any storage offers, and the masked dense one.

The other storage, which holds active entries alone, is backends.cpu.storage.Packed.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_rnn.sparsity.selection import positions_of

MASKED_AT_ONCE = 1 << 17


class Gradient(Protocol):
    """The dense gradient of a weight in one optimizer step; a storage may form it only when it is asked for."""

    def form(self) -> Tensor:
        """The gradient as a tensor of the weight's shape."""

    def add_to(self, total: Tensor) -> None:
        """Add the gradient to a tensor of the weight's shape."""

    def kept(self) -> "Gradient":
        """This gradient, independent of what happens to the parameter's `grad` afterwards."""


class Storage(Protocol):
    """The mask of a weight, and the conversion between its shape and the parameter's.

    `dense` tensors have the weight's shape, `stored` ones the parameter's, as its gradient and optimizer state do.
    """

    @property
    def shape(self) -> torch.Size:
        """The weight's shape."""

    @property
    def stored_shape(self) -> torch.Size:
        """The parameter's shape."""

    @property
    def device(self) -> torch.device:
        """Where the mask is."""

    @property
    def active(self) -> int:
        """The number of active entries."""

    @property
    def mask(self) -> Tensor:
        """Bool, of the weight's shape, True where active; to be written to only while `opened`."""

    def opened(self) -> AbstractContextManager[None]:
        """While entered, `mask` is one tensor that can be written to; `set_mask` then makes it effective."""

    def set_mask(self, mask: Tensor, parameter: nn.Parameter, optimizer: Optimizer | None) -> None:
        """Take over another mask; entries that stay active keep their value and optimizer state."""

    def dense(self, stored: Tensor) -> Tensor:
        """A stored tensor in the weight's shape, zero where inactive."""

    def stored(self, dense: Tensor) -> Tensor:
        """A dense tensor as it is stored."""

    def saved(self, stored: Sequence[Tensor]) -> list[Tensor]:
        """Stored tensors of one thing as a checkpoint holds them: all dense, or active entries in row-major order.

        Integers say something about the other tensors, and mean nothing where these are zero.
        """

    def clear(self, stored: Tensor) -> None:
        """Zero the inactive entries in place."""

    def outside(self, stored: Tensor) -> int:
        """The number of inactive entries that are not zero."""

    def watch(self) -> None:
        """Keep what is needed to form the dense gradient of the next backward passes."""

    def gradient(self, parameter: nn.Parameter) -> Gradient:
        """The dense gradient of the backward passes since `watch`."""


class Masked:
    """All entries are stored, and inactive ones are zero. The mask, bool, is only updated in place."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    @property
    def shape(self) -> torch.Size:
        return self.mask.shape

    @property
    def stored_shape(self) -> torch.Size:
        return self.mask.shape

    @property
    def device(self) -> torch.device:
        return self.mask.device

    @property
    def active(self) -> int:
        return int(self.mask.count_nonzero())

    def opened(self) -> AbstractContextManager[None]:
        return nullcontext()

    def set_mask(self, mask: Tensor, parameter: nn.Parameter, optimizer: Optimizer | None) -> None:
        self.mask.copy_(mask)

    def dense(self, stored: Tensor) -> Tensor:
        return stored

    def stored(self, dense: Tensor) -> Tensor:
        return dense

    def saved(self, stored: Sequence[Tensor]) -> list[Tensor]:
        positions = positions_of(self.mask)
        if positions.numel() == self.mask.numel():
            return list(stored)
        active = [tensor.flatten()[positions] for tensor in stored]
        # Dense steps move inactive entries, and averages without restarts keep what was active once.
        pairs = [pair for pair in zip(stored, active, strict=True) if pair[0].is_floating_point()]
        lost = any(int(whole.count_nonzero()) != int(part.count_nonzero()) for whole, part in pairs)
        return list(stored) if lost else active

    def clear(self, stored: Tensor) -> None:
        mask_in_place(stored, self.mask)

    def outside(self, stored: Tensor) -> int:
        return int(stored[~self.mask].count_nonzero())

    def watch(self) -> None:
        pass

    def gradient(self, parameter: nn.Parameter) -> "WholeGradient":
        return WholeGradient(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)


class WholeGradient:
    """A dense gradient that exists as a tensor."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def form(self) -> Tensor:
        return self._tensor

    def add_to(self, total: Tensor) -> None:
        total.add_(self._tensor)

    def kept(self) -> "WholeGradient":
        return WholeGradient(self._tensor.clone())


class DenseGradients(Mapping[str, Tensor]):
    """Gradients by weight name, formed when they are read; only the last one is kept, to save memory.

    gradients: functions that form them, of the weights' shapes.
    """

    def __init__(self, gradients: Mapping[str, Callable[[], Tensor]]) -> None:
        self._gradients = gradients
        self._last: tuple[str, Tensor] | None = None

    def __getitem__(self, name: str) -> Tensor:
        if self._last is None or self._last[0] != name:
            self._last = None
            self._last = name, self._gradients[name]()
        return self._last[1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._gradients)

    def __len__(self) -> int:
        return len(self._gradients)


def mask_in_place(tensor: Tensor, mask: Tensor) -> None:
    """tensor *= mask, in place; mask: bool, of the same shape."""
    # torch turns the mask into a float tensor before it multiplies. Of a whole weight, that is a copy written to and
    # read from memory; of a piece it stays in cache.
    if tensor.device.type != "cpu" or not (tensor.is_contiguous() and mask.is_contiguous()):
        tensor.mul_(mask)
        return
    pieces = (torch.split(flat.view(-1), MASKED_AT_ONCE) for flat in (tensor, mask))
    for part, kept in zip(*pieces, strict=True):
        part.mul_(kept)

"""How a sparse weight is stored: all entries beside a mask, or the active ones alone."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

MASKED_AT_ONCE = 1 << 17


class Gradient(Protocol):
    """The dense gradient of a weight, of one optimizer step."""

    def form(self) -> Tensor:
        """It, of the weight's shape."""

    def add_to(self, total: Tensor) -> None:
        """Add it to a tensor of the weight's shape."""

    def kept(self) -> "Gradient":
        """The same, whatever happens to the parameter's `grad`."""


class Storage(Protocol):
    """Of a weight [R, ...]; `dense` tensors are of its shape, `stored` ones of the parameter's."""

    @property
    def shape(self) -> torch.Size: ...

    @property
    def active(self) -> int: ...

    @property
    def mask(self) -> Tensor:
        """True where active; to be written to only while `opened`."""

    def opened(self) -> AbstractContextManager[None]:
        """Keep a mask that can be written to."""

    def set_mask(self, mask: Tensor, parameter: nn.Parameter, optimizer: Optimizer | None) -> None:
        """Become another mask; entries that stay active keep value and optimizer state."""

    def dense(self, stored: Tensor) -> Tensor: ...

    def stored(self, dense: Tensor) -> Tensor: ...

    def saved(self, stored: Tensor) -> Tensor:
        """As it is written to a checkpoint: dense, or the active entries in row-major order."""

    def clear(self, stored: Tensor) -> None:
        """Zero the inactive entries."""

    def watch(self) -> None:
        """Keep the dense gradient of the backward passes that come."""

    def gradient(self, parameter: nn.Parameter) -> Gradient:
        """That of the backward passes since `watch`."""


class Masked:
    """All entries, those that are inactive zero; the mask, bool, is only ever updated in place."""

    def __init__(self, mask: Tensor) -> None:
        self.mask = mask

    @property
    def shape(self) -> torch.Size:
        return self.mask.shape

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

    def saved(self, stored: Tensor) -> Tensor:
        return stored

    def clear(self, stored: Tensor) -> None:
        mask_in_place(stored, self.mask)

    def watch(self) -> None:
        pass

    def gradient(self, parameter: nn.Parameter) -> "WholeGradient":
        return WholeGradient(torch.zeros_like(parameter) if parameter.grad is None else parameter.grad)


class WholeGradient:
    """A gradient that is there."""

    def __init__(self, tensor: Tensor) -> None:
        self._tensor = tensor

    def form(self) -> Tensor:
        return self._tensor

    def add_to(self, total: Tensor) -> None:
        total.add_(self._tensor)

    def kept(self) -> "WholeGradient":
        return WholeGradient(self._tensor.clone())


class DenseGradients(Mapping[str, Tensor]):
    """Gradients by weight name, formed when they are read; only the last one is kept."""

    def __init__(self, gradients: Mapping[str, Gradient]) -> None:
        self._gradients = gradients
        self._last: tuple[str, Tensor] | None = None

    def __getitem__(self, name: str) -> Tensor:
        if self._last is None or self._last[0] != name:
            self._last = None
            self._last = name, self._gradients[name].form()
        return self._last[1]

    def __iter__(self) -> Iterator[str]:
        return iter(self._gradients)

    def __len__(self) -> int:
        return len(self._gradients)


def mask_in_place(tensor: Tensor, mask: Tensor) -> None:
    """tensor *= mask. On the CPU in pieces that stay in cache: otherwise torch first makes the mask a float tensor."""
    if tensor.device.type != "cpu" or not (tensor.is_contiguous() and mask.is_contiguous()):
        tensor.mul_(mask)
        return
    pieces = (torch.split(flat.view(-1), MASKED_AT_ONCE) for flat in (tensor, mask))
    for part, kept in zip(*pieces, strict=True):
        part.mul_(kept)

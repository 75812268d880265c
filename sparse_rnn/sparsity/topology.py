"""The sparse topology of a model: the one owner of all masks."""

import math
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_rnn.core.declarations import GateMap, Structures
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.wording import counted
from sparse_rnn.sparsity.gates import find_gates
from sparse_rnn.sparsity.optimizer_state import restart_entries, tensors_like
from sparse_rnn.sparsity.storage import Gradient, Masked, Storage


class SparseWeight:
    """One parameter that is kept sparse, and how its rows divide into gates.

    mask: bool, of the parameter's shape, True where active. cell: the recurrent cell that the weight belongs to; None
    for other weights. `storage` decides what the parameter holds: all entries or, where a backend computes with them,
    the active ones alone.
    """

    def __init__(
        self, name: str, parameter: nn.Parameter, mask: Tensor, gates: Mapping[str, slice], cell: str | None
    ) -> None:
        self.name, self.parameter, self.gates, self.cell = name, parameter, gates, cell
        self.storage: Storage = Masked(mask)

    @property
    def shape(self) -> torch.Size:
        """The shape of the mask, which is also the parameter's if that holds all entries."""
        return self.storage.shape

    @property
    def size(self) -> int:
        """Number of entries, active or not."""
        return self.shape.numel()

    @property
    def mask(self) -> Tensor:
        """True where active, bool; a copy if only active entries are stored (see SparseTopology.open_masks)."""
        return self.storage.mask

    @property
    def active(self) -> int:
        """Number of active entries."""
        return self.storage.active

    @property
    def values(self) -> Tensor:
        """The weight's entries, in its full shape, without gradient."""
        return self.storage.dense(self.parameter.data)

    def stored_gradient(self) -> Tensor:
        """A copy of the gradient of active entries, of the parameter's shape; zero if there is none."""
        gradient = self.parameter.grad
        stored = torch.zeros_like(self.parameter) if gradient is None else gradient.clone()
        self.storage.clear(stored)
        return stored

    def set_mask(self, mask: Tensor, optimizer: Optimizer | None = None) -> None:
        """Take over another mask; entries that stay active keep their value and their state in `optimizer`."""
        self.storage.set_mask(mask, self.parameter, optimizer)

    def loaded(self, saved: Tensor) -> Tensor:
        """The tensor of a checkpoint as it is stored here.

        Raises ValueError if it is neither dense nor holds the active entries in row-major order.
        """
        if saved.shape != self.shape:
            mask = self.mask
            if saved.shape != (int(mask.count_nonzero()),):
                raise ValueError(f"a stored tensor of {self.name} has shape {tuple(saved.shape)}")
            dense = saved.new_zeros(self.shape)
            dense[mask] = saved
            saved = dense
        return self.storage.stored(saved)


class SparseTopology:
    """The masks of a model (theta_s = theta * M, Selfish-RNN Eq. 1).

    Inactive weights are zero, and stay so as long as their gradients are masked before the optimizer steps.
    structures: the hidden units that a method removes as a whole; empty for other methods. model: whose weights they
    are, if it is known; it is not kept alive.
    """

    def __init__(
        self,
        weights: Sequence[SparseWeight],
        structures: Sequence[Structures] = (),
        model: nn.Module | None = None,
    ) -> None:
        self.structures = structures
        self._model = weakref.ref(model) if model is not None else None
        self._weights = {weight.name: weight for weight in weights}

    @classmethod
    def of(
        cls,
        model: nn.Module,
        *,
        keep_dense: Sequence[str] = (),
        gates: GateMap | None = None,
        structures: Sequence[Structures] = (),
    ) -> Self:
        """All parameters of two or more dimensions that match none of the `keep_dense` globs, with all entries active.

        Tied weights count once, and weights without entries not at all. gates: see `find_gates`. Raises ConfigError for
        a glob that matches nothing.
        """
        names = [name for name, p in model.named_parameters() if p.dim() >= 2 and p.numel()]
        for pattern in keep_dense:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise ConfigError(f"sparsifier.keep_dense={pattern} matches none of {', '.join(names)}.")
        known = find_gates(model, gates)
        weights = []
        for name, parameter in model.named_parameters():
            if name not in names or any(fnmatchcase(name, pattern) for pattern in keep_dense):
                continue
            own = known.get(name)
            rows = own.rows if own else {"all": slice(0, parameter.shape[0])}
            mask = torch.ones_like(parameter, dtype=torch.bool)
            weights.append(SparseWeight(name, parameter, mask, rows, own.cell if own else None))
        return cls(weights, structures, model)

    @property
    def model(self) -> nn.Module | None:
        """The module whose weights they are, as long as it lives; None if it is not known."""
        return self._model() if self._model else None

    def __iter__(self) -> Iterator[SparseWeight]:
        return iter(self._weights.values())

    def __len__(self) -> int:
        return len(self._weights)

    def __getitem__(self, name: str) -> SparseWeight:
        return self._weights[name]

    @property
    def size(self) -> int:
        """Number of entries, active or not, of all weights."""
        return sum(weight.size for weight in self)

    @property
    def active(self) -> int:
        """Number of active entries of all weights."""
        return sum(weight.active for weight in self)

    def density(self, *, by: Literal["model", "weight", "gate"] = "model") -> dict[str, float]:
        """The active share in [0, 1] of the model, by weight name, or by `<weight>/<gate>`."""
        if by == "model":
            return {"model": self.active / self.size if self.size else 1.0}
        if by == "weight":
            return {w.name: w.active / w.size for w in self}
        return {
            f"{w.name}/{gate}": float(mask[rows].count_nonzero()) / mask[rows].numel()
            for w, mask in ((w, w.mask) for w in self)
            for gate, rows in w.gates.items()
        }

    @contextmanager
    def open_masks(self) -> Iterator[dict[str, Tensor]]:
        """All masks by weight name, to be written to; `replace` then makes each effective."""
        with ExitStack() as opened:
            for weight in self:
                opened.enter_context(weight.storage.opened())
            yield {weight.name: weight.mask for weight in self}

    def active_gradients(self) -> dict[str, Callable[[], Tensor]]:
        """Copies of the gradients as they are stored now, by weight name: functions that form them, in the weight's
        shape and zero where it is inactive."""
        return {weight.name: partial(weight.storage.dense, weight.stored_gradient()) for weight in self}

    def watch_gradients(self) -> None:
        """Make sure that `gradients` can be read after the next backward passes."""
        for weight in self:
            weight.storage.watch()

    def gradients(self) -> dict[str, Gradient]:
        """The dense gradients of the backward passes since `watch_gradients`, by weight name."""
        return {weight.name: weight.storage.gradient(weight.parameter) for weight in self}

    @torch.no_grad()
    def mask_weights(self) -> None:
        """Zero the inactive weights."""
        for weight in self:
            weight.storage.clear(weight.parameter)

    @torch.no_grad()
    def mask_gradients(self) -> None:
        """Zero the gradients of inactive weights, so that no optimizer moves those."""
        for weight in self:
            if weight.parameter.grad is not None:
                weight.storage.clear(weight.parameter.grad)

    @torch.no_grad()
    def enforce(self, optimizer: Optimizer) -> None:
        """Zero inactive entries of every weight and of every optimizer tensor shaped like it."""
        self.mask_weights()
        for weight in self:
            for tensor in tensors_like(optimizer, weight.parameter).values():
                weight.storage.clear(tensor)

    @torch.no_grad()
    def replace(
        self,
        name: str,
        mask: Tensor,
        optimizer: Optimizer | None = None,
        restart: Tensor | None = None,
        *,
        dense_state: bool = False,
    ) -> None:
        """Set a weight's mask; entries in `restart` start again with value zero and fresh optimizer state.

        mask, restart: bool, of the weight's shape. `restart` defaults to all entries that changed; it may hold more,
        for weights that are removed and regrown in the same update. dense_state: the optimizer steps on dense
        gradients, so its moments are kept. Raises ValueError for a mask of another shape or type.
        """
        weight = self[name]
        if mask.shape != weight.shape or mask.dtype != torch.bool:
            raise ValueError(f"the mask of {name} must be bool of shape {tuple(weight.shape)}")
        restart = weight.mask ^ mask if restart is None else restart
        weight.set_mask(mask, optimizer)
        restart = weight.storage.stored(restart)
        weight.parameter.masked_fill_(restart, 0.0)
        if optimizer is not None:
            active = weight.storage.stored(mask)
            restart_entries(optimizer, weight.parameter, restart, active, dense_state=dense_state)

    def state_dict(self) -> dict[str, Any]:
        """The masks by weight name, as packed bits with shape and number of active entries."""
        return {w.name: {"bits": pack_bits(w.mask), "shape": list(w.shape), "active": w.active} for w in self}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned; raises ValueError if names, shapes or counts do not fit."""
        if set(state) != set(self._weights):
            raise ValueError(
                f"the stored topology has other weights: {', '.join(sorted(set(state) ^ set(self._weights)))}"
            )
        for weight in self:
            stored = state[weight.name]
            if list(stored["shape"]) != list(weight.shape):
                raise ValueError(f"the stored mask of {weight.name} has shape {stored['shape']}")
            bits = stored["bits"].to(weight.parameter.device)  # moved before they are unpacked
            weight.set_mask(unpack_bits(bits, weight.shape))
            if weight.active != stored["active"]:
                raise ValueError(f"the stored mask of {weight.name} is damaged: its number of active weights differs")


def pack_bits(mask: Tensor) -> Tensor:
    """A bool tensor as bytes of 8 entries each, the first in the highest bit, uint8 [ceil(n / 8)], on the CPU."""
    flat = mask.detach().reshape(-1)
    if flat.device.type == "cpu":
        return torch.from_numpy(np.packbits(flat.numpy()))
    return _packed(flat).cpu()  # an eighth of the mask crosses to the CPU


def unpack_bits(bits: Tensor, shape: Sequence[int]) -> Tensor:
    """The inverse of `pack_bits`, on the device of `bits`; raises ValueError if they are too few for `shape`."""
    count = math.prod(shape)
    if bits.dtype != torch.uint8 or bits.numel() != (count + 7) // 8:
        raise ValueError(f"a mask of shape {list(shape)} does not take {counted(bits.numel(), 'byte')}")
    if bits.device.type == "cpu":
        flat = torch.from_numpy(np.unpackbits(bits.numpy(), count=count).view(np.bool_))
    else:
        flat = _unpacked(bits)[:count]
    return flat.reshape(tuple(shape))


def _packed(flat: Tensor) -> Tensor:
    padded = nn.functional.pad(flat.to(torch.uint8), (0, -len(flat) % 8))
    return (padded.view(-1, 8) << _places(flat.device)).sum(1, dtype=torch.uint8)


def _unpacked(bits: Tensor) -> Tensor:
    return (bits[:, None] >> _places(bits.device)).bitwise_and_(1).bool().flatten()


def _places(device: torch.device) -> Tensor:
    """How far each of eight entries is shifted in its byte."""
    return torch.arange(7, -1, -1, dtype=torch.uint8, device=device)

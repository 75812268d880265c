"""Notices what something other than the optimizer wrote into sparse weights, and a checkpoint of another topology.

No hook is left on a module, which can be copied and pickled as before: torch counts the writes into a tensor.
"""

import weakref
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_rnn.sparsity.optimizer_state import tensors_like
from sparse_rnn.sparsity.suitable import owners
from sparse_rnn.sparsity.topology import SparseTopology, SparseWeight

FEW = 0.02  # a smaller share of zeros is no sign of a sparse checkpoint


class WatchedWeights:
    """The sparse weights of a module, as they were when last looked at."""

    def __init__(self, module: nn.Module, topology: SparseTopology) -> None:
        self.topology = topology
        self._owners = {name: weakref.ref(owner) for name, owner in owners(module, topology).items()}
        self._seen: dict[str, tuple[int, int]] = {}
        self.remember()

    def remember(self) -> None:
        """What the weights hold now is known."""
        self._seen = {weight.name: _state(weight.parameter) for weight in self.topology}

    def written(self) -> list[SparseWeight]:
        """The weights into which something was written, or that got another memory, since `remember`."""
        return [weight for weight in self.topology if self._seen[weight.name] != _state(weight.parameter)]

    def refuse_exchanged(self) -> None:
        """Raise RuntimeError if a weight is no longer its module's parameter, or moved to another device or shape."""
        for weight in self.topology:
            name, parameter = weight.name, weight.parameter
            owner = self._owners[name]()
            if owner is not None and owner._parameters.get(name.rpartition(".")[2]) is not parameter:
                raise RuntimeError(
                    f"{name} is no longer the parameter that sparsify made sparse: change the module, or load with "
                    "assign=True, before optimizer and sparsifier are made."
                )
            if parameter.shape != weight.storage.stored_shape:
                raise RuntimeError(f"{name} has changed its shape since sparsify: change it before.")
            if parameter.device != weight.storage.device:
                raise RuntimeError(f"{name} has moved to {parameter.device} since sparsify: move the module before.")
            if parameter.grad is not None and parameter.grad.layout != torch.strided:
                raise RuntimeError(f"{name} has sparse gradients, which cannot be masked: name it in keep_dense.")


def _state(parameter: nn.Parameter) -> tuple[int, int]:
    return parameter._version, parameter.data_ptr()


@dataclass
class Fit:
    """How well weights fit a topology. dead: active entries that are zero; lost: inactive ones that are not.

    Rows without any value, as that of a padding word, and weights of a single value, as an identity, do not count:
    they were initialised so.
    """

    dead: int = 0
    active: int = 0
    lost: int = 0
    zeros: int = 0
    size: int = 0

    def add(self, values: Tensor, mask: Tensor) -> None:
        """Count a weight in; its values, and a bool mask of the same shape."""
        rows, kept = values.detach().flatten(1), mask.flatten(1)
        used = (rows != 0).any(1)
        zero, kept, entries = rows[used] == 0, kept[used], rows[used]
        chosen = entries[~zero]
        if not chosen.numel() or bool((chosen == chosen[0]).all()):
            return
        self.size += zero.numel()
        self.zeros += int(zero.count_nonzero())
        self.active += int(kept.count_nonzero())
        self.dead += int((zero & kept).count_nonzero())
        self.lost += int((~zero & ~kept).count_nonzero())

    @property
    def sparse_already(self) -> bool:
        """Whether so many weights are zero that they come from a sparse network."""
        return self.zeros > FEW * self.size

    @property
    def of_another_topology(self) -> bool:
        """Whether the active entries are zero about as often as any: what is zero was not decided by this topology."""
        return self.sparse_already and 2 * self.dead * self.size > self.active * self.zeros

    @classmethod
    def of(cls, weights: Iterable[SparseWeight]) -> "Fit":
        """That of the weights as they are now."""
        found = cls()
        for weight in weights:
            found.add(weight.values, weight.mask)
        return found


@dataclass
class EarlierValues:
    """Sparse weights as they were before `sparsify` drew a topology, and their optimizer state.

    They are kept only where one of both was sparse already: the state of a sparsifier may follow that knows their
    topology, as where a framework restores the module before there is an optimizer.
    """

    copies: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    nonzero: int = 0
    trained: bool = False
    versions: list[int] = field(default_factory=list)

    @classmethod
    def of(cls, topology: SparseTopology, optimizer: Optimizer) -> "EarlierValues":
        """Copies, if the weights are sparse already; else nothing."""
        found, of_state = cls(), Fit()
        states = {weight.name: list(tensors_like(optimizer, weight.parameter).values()) for weight in topology}
        for weight in topology:
            for each in states[weight.name]:
                of_state.add(each, weight.mask)
        if not (of_state.sparse_already or Fit.of(topology).sparse_already):
            return found
        for weight in topology:
            state = states[weight.name]
            found.trained = found.trained or bool(state)
            found.nonzero += int(weight.parameter.data.count_nonzero())
            found.copies += [(each, each.detach().clone()) for each in (weight.parameter, *state)]
        return found

    def settle(self) -> None:
        """The topology is drawn and enforced: later writes are not ours."""
        self.versions = [tensor._version for tensor, _ in self.copies]

    def fit(self, weights: Sequence[SparseWeight]) -> Fit:
        """How well the earlier values of these weights fit their topology."""
        copies = {id(tensor): copy for tensor, copy in self.copies}
        found = Fit()
        for weight in weights:
            if id(weight.parameter) in copies:
                found.add(copies[id(weight.parameter)], weight.mask)
        return found

    @torch.no_grad()
    def put_back(self) -> None:
        """Undo what the first topology has zeroed, except in tensors that were written to since."""
        for (tensor, copy), version in zip(self.copies, self.versions, strict=True):
            if tensor._version == version:
                tensor.copy_(copy)

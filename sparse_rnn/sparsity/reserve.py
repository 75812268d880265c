"""Weights that the forward pass leaves out but that are trained all the same (Top-KAST, Jayakumar et al. 2020)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sparse_rnn.sparsity.groups import Group
from sparse_rnn.sparsity.selection import select_smallest
from sparse_rnn.sparsity.storage import Gradient
from sparse_rnn.sparsity.topology import SparseTopology, SparseWeight, pack_bits, unpack_bits


class Reserve:
    """The values of all inactive entries, and which of them are trained.

    With the active entries A, B is a superset of as many entries as `backward_sparsity` leaves, those with the largest
    |value|. After every step of the optimizer, entries of B outside A take a step of plain SGD at the optimizer's
    learning rate, on the gradient as it was clipped. Weight decay counts 1 / D times for them, with D the density of A:
    that is the paper's exploration penalty. Memory: a value and a byte for every entry, and a dense gradient in every
    step.
    """

    def __init__(self, topology: SparseTopology, optimizer: Optimizer, backward_sparsity: float) -> None:
        self._topology, self._optimizer, self._backward_sparsity = topology, optimizer, backward_sparsity
        self.values = {weight.name: weight.values.clone() for weight in topology}
        self._trained = {weight.name: torch.zeros_like(weight.mask) for weight in topology}
        self._seen: Mapping[str, Gradient] = {}
        self._settings: Mapping[str, tuple[float, float]] = {}
        self._length = 0.0

    def begin(self, groups: Sequence[Group]) -> None:
        """The first topology is drawn: keep the values of inactive entries alone."""
        for weight in self._topology:
            self.values[weight.name].masked_fill_(weight.mask, 0.0)
        self.choose(groups)

    @torch.no_grad()
    def choose(self, groups: Sequence[Group]) -> None:
        """Choose which entries are trained until the next update, in each group on its own."""
        for group in groups:
            inactive = ~group.active
            free = int(inactive.count_nonzero())
            wanted = round((1 - self._backward_sparsity) * group.size) - (group.size - free)
            largest = select_smallest(-group.gather(self.values).abs(), inactive, min(max(wanted, 0), free))
            group.scatter(largest, self._trained)

    def see(self, gradients: Mapping[str, Gradient]) -> None:
        """The dense gradients of the coming step, before masking and clipping."""
        self._seen = {name: each.kept() for name, each in gradients.items()}
        self._length = self._length_of_active()
        of_parameter = {p: group for group in self._optimizer.param_groups for p in group["params"]}
        settings = {weight.name: of_parameter[weight.parameter] for weight in self._topology}
        self._settings = {n: (float(s.get("lr", 1.0)), float(s.get("weight_decay", 0.0))) for n, s in settings.items()}

    def _length_of_active(self) -> float:
        """The norm of the gradients of all active entries, as they are now."""
        return math.sqrt(sum(float(weight.stored_gradient().double().square().sum()) for weight in self._topology))

    @torch.no_grad()
    def step(self) -> None:
        """Move the trained entries, after the optimizer has moved the active ones."""
        # Whatever was done to the gradients in between, as clipping, shows in those of the active entries.
        scale = self._length_of_active() / self._length if self._length else 1.0
        density = self._topology.active / self._topology.size
        for name, gradient in self._seen.items():
            values, (rate, decay) = self.values[name], self._settings[name]
            change = gradient.form() * scale + values * (decay / density)
            values.sub_(change.mul_(self._trained[name]), alpha=rate)
        self._seen = {}

    @torch.no_grad()
    def take(self, weight: SparseWeight, mask: Tensor) -> None:
        """Keep the values of entries that a new mask, bool of the weight's shape, leaves out; before it is set."""
        self.values[weight.name].add_(torch.where(mask, 0.0, weight.values))

    @torch.no_grad()
    def give(self, weight: SparseWeight, mask: Tensor) -> None:
        """Give entries that have become active their values; after the mask is set, and they are zero."""
        values = self.values[weight.name]
        weight.parameter.data.add_(weight.storage.stored(values * mask))
        values.masked_fill_(mask, 0.0)

    def state_dict(self) -> dict[str, Any]:
        """The values, dense, and the trained entries as packed bits, by weight name."""
        return {"values": dict(self.values), "trained": {name: pack_bits(t) for name, t in self._trained.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name, values in self.values.items():
            values.copy_(state["values"][name])
            self._trained[name] = unpack_bits(state["trained"][name].to(values.device), values.shape)

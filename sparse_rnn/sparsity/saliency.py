"""Saliencies: what pruning at initialisation scores the weights of an untrained network by.

The weights with the largest scores in the whole network are kept, so every layer gets as many as its scores deserve.
Whoever trains the network offers it as a Probe.
"""

from collections.abc import Mapping
from typing import Protocol

import torch
from torch import Tensor

from sparse_rnn.sparsity.groups import Group
from sparse_rnn.sparsity.selection import select_smallest

ROUNDS = 100  # of SynFlow, as in its paper
STEP = 1e-2  # of GraSP's difference quotient, relative to the length of the weights


class Probe(Protocol):
    """An untrained network with dense weights.

    whole: all entries of its sparse weights as one group. weights: their values by name, which a saliency may change
    if it puts them back.
    """

    @property
    def whole(self) -> Group: ...

    @property
    def weights(self) -> Mapping[str, Tensor]: ...

    def loss_gradients(self) -> dict[str, Tensor]:
        """Gradients of the mean loss over a few minibatches, always the same ones; without dropout."""

    def flow_gradients(self) -> dict[str, Tensor]:
        """Gradients of the sum of all outputs for data-free input, with all parameters replaced by their magnitude.

        Gradients are by the magnitudes of the weights.
        """

    def parent_magnitudes(self) -> dict[str, Tensor]:
        """The magnitudes of the weights that the parent run kept; zeros if there is none."""


class Saliency(Protocol):
    """Scores of all entries by weight name; `kept` is the number of those with the largest scores that will stay."""

    def __call__(self, probe: Probe, kept: int) -> dict[str, Tensor]: ...


def snip(probe: Probe, kept: int) -> dict[str, Tensor]:
    """|g w|: how much the loss would change without the weight (SNIP, Lee et al. 2019, Eq. 5)."""
    return {name: (gradient * probe.weights[name]).abs() for name, gradient in probe.loss_gradients().items()}


def grasp(probe: Probe, kept: int) -> dict[str, Tensor]:
    """w (H g): what stays lets the gradient flow on (GraSP, Wang et al. 2020, Eq. 8, with the opposite sign).

    H g is a central difference quotient of gradients along g, so that no layer needs a second derivative.
    """
    weights, along = probe.weights, probe.loss_gradients()
    length = _norm(along)
    step = STEP * _norm(weights) / length if length else 0.0
    begin = {name: weight.clone() for name, weight in weights.items()}
    sides = []
    for sign in (1.0, -1.0):
        for name, weight in weights.items():
            weight.copy_(begin[name] + sign * step * along[name])
        sides.append(probe.loss_gradients())
    for name, weight in weights.items():
        weight.copy_(begin[name])
    ahead, behind = sides
    return {name: weight * (ahead[name] - behind[name]) / (2 * step or 1.0) for name, weight in weights.items()}


def synflow(probe: Probe, kept: int) -> dict[str, Tensor]:
    """|w| dR/d|w|, R the sum of all outputs, pruned in ROUNDS rounds and scored anew in each (Tanaka et al. 2020).

    Entries that a round has pruned score -1, below all others.
    """
    weights, whole = probe.weights, probe.whole
    begin = {name: weight.clone() for name, weight in weights.items()}
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    scores: dict[str, Tensor] = {}
    for number in range(1, ROUNDS + 1):
        gradients = probe.flow_gradients()
        scores = {
            name: (gradients[name] * weight.abs()).masked_fill(~masks[name], -1.0) for name, weight in weights.items()
        }
        left = round(whole.size * (kept / whole.size) ** (number / ROUNDS))
        whole.scatter(select_smallest(-whole.gather(scores), whole.gather(masks), left), masks)
        for name, weight in weights.items():
            weight.copy_(begin[name] * masks[name])
    for name, weight in weights.items():
        weight.copy_(begin[name])
    return {name: score.masked_fill(~masks[name], -1.0) for name, score in scores.items()}


def magnitude_of_parent(probe: Probe, kept: int) -> dict[str, Tensor]:
    """|w| of the parent run's trained weights (Frankle & Carbin 2019)."""
    return probe.parent_magnitudes()


def _norm(tensors: Mapping[str, Tensor]) -> float:
    return float(torch.stack([tensor.double().norm() for tensor in tensors.values()]).norm())

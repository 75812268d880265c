"""Topological distance between two networks: how much their connections differ once their units are matched.

Selfish-RNN, appendix J: units are matched by the correlation of their states on test tokens, then the graph edit
distance is scaled to [0, 1]. The paper does not say how; here it is, a unit and gate at a time, the share of the
connections of either network that only one of them has.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparse_rnn.core.errors import ConfigError

from .matching import Mask, Matching, Units, partners
from .snapshots import Connections, Snapshot


@dataclass(frozen=True)
class Distance:
    """The distance of one recurrent weight, named as in `Connections`. value: in [0, 1]. chance: see `chance`."""

    weight: str
    value: float
    chance: float


def distances(first: Snapshot, second: Snapshot, matching: Matching = "semi") -> list[Distance]:
    """The distance of every recurrent weight, by layer, ih before hh. Raises ConfigError for networks of unequal sizes.

    With `semi`, each unit of `first` gets a partner in `second`, so that the distance is not symmetric. The dimensions
    of the embedding are matched by their index: in networks with different initializations they mean different things,
    and the distance of ih1 is large for that reason alone.
    """
    _refuse_other_sizes(first, second)
    matched = [
        partners(ours, theirs, matching) for ours, theirs in zip(first.standardised, second.standardised, strict=True)
    ]
    found = []
    for ours, theirs in zip(first.connections, second.connections, strict=True):
        value = float(row_distances(ours.mask, aligned(theirs, matched)).mean())
        found.append(Distance(ours.name, value, chance(ours.mask, theirs.mask)))
    return found


def aligned(connections: Connections, matched: list[Units]) -> Mask:
    """The mask of the second network, [gates, units, inputs], with its units moved to the places of their partners.

    matched: by layer, see `partners`. Rows move with their own layer, in every gate; columns with their source layer.
    """
    mask = connections.mask[:, matched[connections.layer]]
    return mask if connections.source is None else np.take(mask, matched[connections.source], axis=2)


def row_distances(first: Mask, second: Mask) -> NDArray[np.float64]:
    """|A xor B| / |A or B| along the last axis of two masks of the same shape; 0 where both are empty."""
    either = np.count_nonzero(first | second, axis=-1)
    differing = np.count_nonzero(first ^ second, axis=-1)
    share: NDArray[np.float64] = np.divide(differing, either, out=np.zeros(either.shape), where=either > 0)
    return share


def chance(first: Mask, second: Mask) -> float:
    """The expected distance of independent random masks that have the densities of these in every gate, [gates, ...].

    Trained masks concentrate in some rows and columns, so that two of them are closer to each other than chance without
    anything else in common. Only the change of a distance during training shows that networks become alike.
    """
    pairs = zip(_densities(first), _densities(second), strict=True)
    return float(np.mean([expected(*pair) for pair in pairs]))


def expected(first: float, second: float) -> float:
    """The expected distance of independent random masks of two densities; 1 - d / (2 - d) if both have density d."""
    both = first * second
    return 1 - both / (first + second - both) if both else float(first != second)


def _densities(mask: Mask) -> list[float]:
    return [float(np.count_nonzero(gate) / gate.size) for gate in mask]


def _refuse_other_sizes(first: Snapshot, second: Snapshot) -> None:
    ours, theirs = _shapes(first), _shapes(second)
    for name in ours | theirs:
        if ours.get(name) != theirs.get(name):
            raise ConfigError(
                "Topological distance is between networks of the same sizes, with states on the same tokens: "
                f"{name} has shape {ours.get(name)} in one and {theirs.get(name)} in the other."
            )


def _shapes(network: Snapshot) -> dict[str, tuple[int, ...]]:
    masks = {weight.name: weight.mask.shape for weight in network.connections}
    return masks | {f"hidden/{layer}": states.shape for layer, states in enumerate(network.states)}

"""Snapshots of a run: its recurrent topology after every epoch, and its hidden states on the same test tokens."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.tensor_files import read_tensors
from sparse_rnn.core.wording import counted

from .matching import Mask, States, standardised

NAME = re.compile(r"epoch(\d{1,9})\.safetensors")
OF_LSTM = re.compile(r"(?:(?:^|\.)(\d+)\.)?weight_(ih|hh)_l(\d+)$")
OF_RHN = re.compile(r"highway\.(?:input|recurrent\.(\d+))\.weight$")


class DamagedSnapshot(ConfigError):
    """A snapshot that cannot be read."""


@dataclass(frozen=True)
class Connections:
    """The mask of one recurrent weight, bool [gates, units, inputs].

    name: ih or hh with the number of the layer, or of an RHN's depth, from 1. layer, source: the layers from 0 to whose
    units the rows and the inputs belong; source is None if the inputs are the dimensions of the embedding.
    """

    name: str
    layer: int
    source: int | None
    mask: Mask


@dataclass(frozen=True)
class Snapshot:
    """One network at the end of one epoch. states: of each layer, float32 [tokens, units]."""

    connections: tuple[Connections, ...]
    states: tuple[States, ...]

    @cached_property
    def standardised(self) -> tuple[States, ...]:
        """The states of each layer, standardised once for all comparisons."""
        return tuple(standardised(states) for states in self.states)


def epochs(folder: Path) -> list[int]:
    """The epochs, from 1, for which a folder holds a snapshot; none if there is no such folder."""
    return sorted(int(found[1]) for path in folder.glob("epoch*.safetensors") if (found := NAME.fullmatch(path.name)))


def read(folder: Path, epoch: int) -> Snapshot:
    """The snapshot of an epoch.

    Raises DamagedSnapshot for a file that cannot be read, and ConfigError for a model whose units cannot be exchanged
    with one another; those of the LSTMs and the RHN can.
    """
    path = folder / f"epoch{epoch:04d}.safetensors"
    try:
        stored, metadata = read_tensors(path)
        shapes = {name.removeprefix("shape/"): shape for name, shape in metadata.items()}
        places = {name: place for name in shapes if (place := _place(name))}
        masks = {name: _unpacked(stored[f"mask/{name}"].numpy(), shapes[name]) for name in places}
        layers = sum(name.startswith("hidden/") for name in stored)
        states = tuple(stored[f"hidden/{layer}"].numpy().astype(np.float32) for layer in range(layers))
        connections = [_connections(place, masks[name], states) for name, place in places.items()]
        if len({each.name for each in connections}) < len(connections):
            raise ValueError(f"more than one of {', '.join(places)} has the same place in the network")
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise DamagedSnapshot(f"{path} cannot be read as a snapshot: {error}.") from error
    if not connections:
        raise ConfigError(
            f"{path} holds no masks of an LSTM or RHN: other units, such as the ordered ones of on_lstm, "
            "cannot be exchanged with one another, and a dense network has no topology."
        )
    return Snapshot(tuple(sorted(connections, key=_in_order)), states)


def _place(name: str) -> tuple[str, int, int | None] | None:
    """Name, layer and source of a weight's `Connections`; None if it is not a known recurrent weight."""
    if found := OF_LSTM.search(name):
        layer = int(found[1] or 0) + int(found[3])
        below = layer - 1 if layer else None
        return f"{found[2]}{layer + 1}", layer, layer if found[2] == "hh" else below
    if found := OF_RHN.search(name):
        return (f"hh{int(found[1]) + 1}", 0, 0) if found[1] else ("ih1", 0, None)
    return None


def _connections(place: tuple[str, int, int | None], mask: Mask, states: tuple[States, ...]) -> Connections:
    name, layer, source = place
    if source is not None and mask.shape[1] != states[source].shape[1]:
        units = counted(states[source].shape[1], "unit")
        raise ValueError(f"{name} has {counted(mask.shape[1], 'column')} for {units}")
    return Connections(name, layer, source, mask.reshape(-1, states[layer].shape[1], mask.shape[1]))


def _unpacked(bits: NDArray[np.uint8], shape: str) -> Mask:
    rows, columns = map(int, shape.split("x"))
    if bits.dtype != np.uint8 or min(rows, columns) < 1 or bits.shape != (-(-rows * columns // 8),):
        raise ValueError(f"a mask is not of shape {shape[:40]}")
    return np.unpackbits(bits, count=rows * columns).view(np.bool_).reshape(rows, columns)


def _in_order(connections: Connections) -> tuple[int, bool]:
    return int(connections.name[2:]), connections.name.startswith("hh")

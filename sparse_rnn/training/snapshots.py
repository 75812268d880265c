"""Snapshots of a run after each epoch: its masks, and what its layers compute."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from torch import Tensor

from sparse_rnn.core.tensor_files import read_tensors, save_tensors
from sparse_rnn.sparsity.topology import SparseTopology, pack_bits, unpack_bits


def save_snapshot(folder: Path, epoch: int, topology: SparseTopology, states: Sequence[Tensor]) -> None:
    """Write epoch0001.safetensors and so on, by `epoch` (from 1).

    `mask/<weight>`: the bit-packed mask, uint8 [ceil(n / 8)], whose shape is in the metadata as `shape/<weight>`.
    `hidden/<layer>`: that layer's hidden states, float16 [tokens, units]. Raises OSError.
    """
    tensors = {f"mask/{weight.name}": pack_bits(weight.mask) for weight in topology}
    tensors |= {f"hidden/{layer}": state.contiguous() for layer, state in enumerate(states)}
    shapes = {f"shape/{weight.name}": "x".join(map(str, weight.shape)) for weight in topology}
    folder.mkdir(exist_ok=True)
    save_tensors(_file(folder, epoch), tensors, shapes)


def read_masks(folder: Path, epoch: int) -> Iterator[tuple[str, Tensor]]:
    """The masks of an epoch's snapshot by the names of their weights, bool; none if there is no snapshot of it.

    Raises OSError, and ValueError for what is no snapshot.
    """
    path = _file(folder, epoch)
    if path.exists():
        tensors, metadata = read_tensors(path)
        for key, shape in metadata.items():
            if key.startswith("shape/"):
                name = key.removeprefix("shape/")
                yield name, unpack_bits(tensors[f"mask/{name}"], [int(side) for side in shape.split("x")])


def _file(folder: Path, epoch: int) -> Path:
    return folder / f"epoch{epoch:04d}.safetensors"

"""Snapshots of a run after each epoch: its masks, and what its layers compute."""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from sparse_rnn.core.tensor_files import save_tensors
from sparse_rnn.sparsity.topology import SparseTopology, pack_bits


def save_snapshot(folder: Path, epoch: int, topology: SparseTopology, states: Sequence[Tensor]) -> None:
    """Write epoch0001.safetensors and so on, by `epoch` (from 1).

    `mask/<weight>`: the bit-packed mask, uint8 [ceil(n / 8)], whose shape is in the metadata as `shape/<weight>`.
    `hidden/<layer>`: that layer's hidden states, float16 [tokens, units]. Raises OSError.
    """
    tensors = {f"mask/{weight.name}": pack_bits(weight.mask) for weight in topology}
    tensors |= {f"hidden/{layer}": state.contiguous() for layer, state in enumerate(states)}
    shapes = {f"shape/{weight.name}": "x".join(map(str, weight.shape)) for weight in topology}
    folder.mkdir(exist_ok=True)
    save_tensors(folder / f"epoch{epoch:04d}.safetensors", tensors, shapes)

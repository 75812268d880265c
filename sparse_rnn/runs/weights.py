"""The file of the weights that a run keeps."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from sparse_rnn.core.errors import DamagedFile
from sparse_rnn.core.tensor_files import CHECKSUM, read_metadata, read_tensors, save_tensors
from sparse_rnn.sparsity.topology import SparseTopology, SparseWeight, pack_bits, unpack_bits


def save_weights(path: Path, model: nn.Module, topology: SparseTopology, metadata: Mapping[str, str]) -> None:
    """Write a model's weights as safetensors, of a sparse weight only the active values; tied weights once.

    A sparse weight is stored as `<name>.values` [active] in row-major order, `<name>.mask`, bit-packed, uint8
    [ceil(n / 8)], and `<name>.shape` int64; any other parameter as it is. Raises OSError.
    """
    save_tensors(path, stored_weights(model, topology), metadata)


def stored_weights(model: nn.Module, topology: SparseTopology) -> dict[str, Tensor]:
    """The tensors that `save_weights` writes, on the CPU."""
    sparse = {weight.name: weight for weight in topology}
    tensors: dict[str, Tensor] = {}
    for name, parameter in model.named_parameters():
        if name in sparse:
            weight, mask = sparse[name], sparse[name].mask
            tensors[f"{name}.values"] = weight.values[mask].cpu()
            tensors[f"{name}.mask"] = pack_bits(mask)
            tensors[f"{name}.shape"] = torch.tensor(weight.shape)
        else:
            tensors[name] = parameter.detach().cpu().contiguous()
    return tensors


def weights_epoch(path: Path) -> int:
    """The epoch, from 1, whose weights a file of `save_weights` says to hold; 0 if there is none. Raises OSError."""
    try:
        return int(read_metadata(path).get("epoch", 0))
    except (FileNotFoundError, ValueError):
        return 0


def are_weights_of(path: Path, epoch: int, checksum: str | None) -> bool:
    """Whether a file of `save_weights` is sound and holds the weights of this epoch, from 1, with this checksum.

    checksum: None if it is not known, as older versions have none. Raises OSError.
    """
    if weights_epoch(path) != epoch:
        return False  # without reading all of it
    try:
        _, metadata = read_tensors(path)
    except ValueError:
        return False
    return checksum in (None, metadata.get(CHECKSUM))


@torch.no_grad()
def load_weights(path: Path, model: nn.Module, topology: SparseTopology) -> dict[str, str]:
    """Read what `save_weights` wrote into a model and its topology; returns the metadata.

    Raises DamagedFile if it is missing, damaged or not of this model, and OSError if it cannot be read.
    """
    try:
        tensors, metadata = read_tensors(path)
        _restore(tensors, dict(model.named_parameters()), {weight.name: weight for weight in topology})
    except (FileNotFoundError, KeyError, ValueError, RuntimeError) as error:
        raise DamagedFile(
            f"{path} does not hold the weights of this run ({error}): move its folder away to train the run again."
        ) from error
    return metadata


def sparse_values(path: Path, topology: SparseTopology) -> dict[str, Tensor]:
    """The sparse weights in a file of `save_weights` by name, each dense with zeros, on the topology's device.

    Raises DamagedFile if it is missing, damaged or not of this topology, and OSError if it cannot be read.
    """
    try:
        tensors, _ = read_tensors(path)
        found = {}
        for weight in topology:
            mask = unpack_bits(tensors[f"{weight.name}.mask"], weight.shape)
            dense = torch.zeros(weight.shape)
            dense[mask] = tensors[f"{weight.name}.values"]
            found[weight.name] = dense.to(weight.parameter.device)
    except (FileNotFoundError, KeyError, ValueError, RuntimeError, IndexError) as error:
        raise DamagedFile(
            f"{path} does not hold the weights of this run's parent ({error}): move its folder away to train it again."
        ) from error
    return found


def _restore(
    tensors: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter], sparse: Mapping[str, SparseWeight]
) -> None:
    """Copy tensors of a file into parameters. Raises KeyError, ValueError, RuntimeError if one does not fit."""
    for name, parameter in parameters.items():
        if name in sparse:
            weight = sparse[name]
            if tensors[f"{name}.shape"].tolist() != list(weight.shape):
                raise ValueError(f"{name} has shape {tensors[f'{name}.shape'].tolist()}")
            weight.set_mask(unpack_bits(tensors[f"{name}.mask"].to(parameter.device), weight.shape))
            parameter.copy_(weight.loaded(tensors[f"{name}.values"].to(parameter.device)))
        else:
            parameter.copy_(tensors[name])

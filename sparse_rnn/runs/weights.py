"""The file of the weights that a run keeps."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sparse_rnn.core.errors import DamagedFile
from sparse_rnn.core.reading import check_plain
from sparse_rnn.core.tensor_files import save_tensors
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
    """The epoch, from 1, whose weights a file of `save_weights` holds; 0 if there is no file or it cannot be read."""
    try:
        check_plain(path)
        with safe_open(path, framework="pt") as stored:
            return int((stored.metadata() or {}).get("epoch", 0))
    except (OSError, SafetensorError, ValueError):
        return 0


@torch.no_grad()
def load_weights(path: Path, model: nn.Module, topology: SparseTopology) -> dict[str, str]:
    """Read what `save_weights` wrote into a model and its topology; returns the metadata.

    Raises DamagedFile if the file cannot be read or is not of this model.
    """
    try:
        check_plain(path)
        with safe_open(path, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            metadata = dict(stored.metadata() or {})
        _restore(tensors, dict(model.named_parameters()), {weight.name: weight for weight in topology})
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise DamagedFile(
            f"{path} does not hold the weights of this run ({error}): move its folder away to train the run again."
        ) from error
    return metadata


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

"""A trained model as one safetensors file from which it can be rebuilt without its run.

Every parameter is a tensor of its name; tied weights are stored once, under the first of their names. With the layouts
csr and coo a sparse weight is stored under `<name>.` instead: shape, int64 [dimensions]; values [n], those of the
active entries in row-major order; and their positions, see sparse_indices.py (of more than two dimensions, all but the
first count as columns). The metadata are texts: `METADATA`.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparse_rnn.config.schema import Run
from sparse_rnn.config.stored import run_from_dict
from sparse_rnn.core.errors import ConfigError, DamagedFile, RunFailed
from sparse_rnn.core.tensor_files import CHECKSUM, read_tensors, save_tensors
from sparse_rnn.core.wording import counted
from sparse_rnn.inference.load import (
    give_tokenizer,
    kept_tokenizer,
    last_weights,
    load_best,
    load_data,
    read_run,
    reraise_damaged,
    vocabulary_of,
)
from sparse_rnn.inference.sparse_indices import PARTS, expect, pack_positions, unpack_positions
from sparse_rnn.inference.untrusted import UNREADABLE, reason, refuse_large_sizes, refuse_other_names, skeleton_of
from sparse_rnn.models.base import ModelConfig
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.sparsity.topology import SparseTopology

FORMAT, VERSION = "sparse_rnn", "1"

LAYOUTS = (*PARTS, "dense")
METADATA = {
    "format": "sparse_rnn",
    "version": "of this format",
    "layout": "csr, coo or dense",
    "run": "the run's id",
    "config": "its configuration, JSON",
    "sizes": "what the model is built for, JSON: the number of words, and for a classifier the number of classes",
    "weights": "which of the run's weights these are",
    "sparsity": "inactive share of the sparse weights",
    "parameters": "their number",
    "active_parameters": "those that are not masked; csr and coo hold no others",
    "vocabulary": "the words by number, the classes, and the SHA-256 of the data, JSON; files of before have none",
    CHECKSUM: "of the tensors and the other metadata; a file without it is not compared with it",
}
LATER = {"vocabulary", CHECKSUM}  # those that older files lack

LARGEST_GROWTH = 1000  # from a file to its model in memory: a file that grows more is an attempt to fill the memory


@dataclass(frozen=True)
class ExportedSize:
    """What a written file takes, in bytes, and of how many parameters it holds how many.

    written: all of the file. dense: what all weights take without their sparsity. values: of the parameters in the
    file. positions: of where the active ones stand. held, parameters: the numbers of those in the file, and of all.
    """

    written: int
    dense: int
    values: int
    positions: int
    held: int
    parameters: int

    @property
    def rest(self) -> int:
        """Names, shapes, configuration and checksum."""
        return self.written - self.values - self.positions


def export_folder(folder: RunFolder, path: Path, layout: str, weights: str) -> ExportedSize:
    """Write the best, averaged or raw weights of a run to `path`; raises ConfigError, RunFailed, OSError."""
    record, run = read_run(folder)
    if layout != "dense" and not run.sparsifier.masked:
        raise ConfigError(
            f"{folder.path} is a run of sparsifier={run.sparsifier.name}, which has no masks: use format=dense."
        )
    about = {"run": folder.path.name, "config": record["config"], "sizes": record["sizes"]}
    tokenizer = kept_tokenizer(folder, record)
    about |= vocabulary_of(folder, tokenizer)
    with reraise_damaged():
        if weights == "best":
            model, topology, origin = load_best(run, record["sizes"], folder)
            return _write_and_compare(path, model, topology, layout, {**about, "weights": origin})
        data = tokenizer.no_text(record["sizes"]) if tokenizer else load_data(folder, record, run)
        with last_weights(run, data, folder, weights, torch.device("cpu")) as (trainer, origin):
            return _write_and_compare(path, trainer.model, trainer.topology, layout, {**about, "weights": origin})


def _write_and_compare(
    path: Path, model: nn.Module, topology: SparseTopology, layout: str, about: Mapping[str, Any]
) -> ExportedSize:
    """Write the file and read it back. Raises DamagedFile, RunFailed."""
    save_exported(path, model, topology, layout, about)
    if not holds(load_exported(path), model, topology):
        path.unlink()
        raise RunFailed("The exported weights are not those of the run: this is a defect.")
    return _measured(path, [weight for _, weight in dense_weights(model, topology)], topology, layout)


def _measured(path: Path, weights: Sequence[Tensor], topology: SparseTopology, layout: str) -> ExportedSize:
    """What the file of these weights takes."""
    tensors, _ = read_tensors(path)
    parts = ("shape", *PARTS[layout]) if layout in PARTS else ()
    positions = {f"{weight.name}.{part}" for weight in topology for part in parts}
    values = [tensor for name, tensor in tensors.items() if name not in positions]
    return ExportedSize(
        written=path.stat().st_size,
        dense=sum(weight.nbytes for weight in weights),
        values=sum(tensor.nbytes for tensor in values),
        positions=sum(tensors[name].nbytes for name in positions),
        held=sum(tensor.numel() for tensor in values),
        parameters=sum(weight.numel() for weight in weights),
    )


@torch.no_grad()
def save_exported(
    path: Path, model: nn.Module, topology: SparseTopology, layout: str, about: Mapping[str, Any]
) -> None:
    """Write the file atomically; `about`: run, config, sizes, weights and vocabulary (or none) of the metadata.

    Raises OSError.
    """
    sparse = {weight.name: weight for weight in topology} if layout in PARTS else {}
    tensors: dict[str, Tensor] = {}
    total = 0
    for name, dense in dense_weights(model, topology):
        total += dense.numel()
        if name in sparse:
            parts = _pack(dense, sparse[name].mask.cpu(), layout)
            tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
        else:
            tensors[name] = dense.contiguous()
    inactive = topology.size - topology.active
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "layout": layout,
        **{key: value if isinstance(value, str) else json.dumps(value) for key, value in about.items()},
        "sparsity": str(inactive / topology.size if topology.size else 0.0),
        "parameters": str(total),
        "active_parameters": str(total - inactive),
    }
    save_tensors(path, tensors, metadata)


def dense_weights(model: nn.Module, topology: SparseTopology) -> Iterator[tuple[str, Tensor]]:
    """Every parameter's name and entries, inactive ones included, on the CPU; tied weights once."""
    sparse = {weight.name: weight for weight in topology}
    for name, parameter in model.named_parameters():
        yield name, (sparse[name].values if name in sparse else parameter.detach()).cpu()


def _pack(dense: Tensor, mask: Tensor, layout: str) -> dict[str, Tensor]:
    positions = mask.flatten().nonzero().flatten()
    return {
        "shape": torch.tensor(dense.shape),
        "values": dense.flatten()[positions],
        **pack_positions(positions, *_matrix(dense), layout),
    }


def _matrix(dense: Tensor) -> tuple[int, int]:
    """Rows and columns of a weight, seen as a matrix."""
    return dense.shape[0], math.prod(dense.shape[1:])


def load_exported(path: Path | str) -> nn.Module:
    """The model in evaluation mode, on the CPU; the file need not be trusted. Raises DamagedFile.

    It reads and writes text by `encode` and `decode`, and a classifier's `classes` are the names of its classes.
    Nothing is allocated at a size that the file claims before its tensors have confirmed that size.
    """
    path = Path(path)
    try:
        tensors, metadata = _read(path)
        run, sizes = _described(metadata, most=path.stat().st_size)
        skeleton = skeleton_of(run.model, sizes, 2 * len(tensors))  # tied weights count twice
        _check_tensors(tensors, skeleton, metadata, path.stat().st_size)
        model = _build(run.model, sizes)
        give_tokenizer(model, metadata, sizes)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                sparse = name not in tensors
                parameter.copy_(_unpack(tensors, name, parameter, metadata["layout"]) if sparse else tensors[name])
    except UNREADABLE as error:
        raise DamagedFile(f"{path} does not hold an exported model ({reason(error)}).") from error
    return model.eval()


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors, metadata = read_tensors(path)
    if missing := METADATA.keys() - LATER - metadata.keys():
        raise ValueError(f"its metadata have no {', '.join(sorted(missing))}")
    if (metadata["format"], metadata["version"]) != (FORMAT, VERSION):
        raise ValueError(f"it is {metadata['format']!r} of version {metadata['version']!r}, not {VERSION}")
    if metadata["layout"] not in LAYOUTS:
        raise ValueError(f"its layout {metadata['layout']!r} is none of {', '.join(LAYOUTS)}")
    return tensors, metadata


def _described(metadata: Mapping[str, str], most: int) -> tuple[Run, list[int]]:
    """Configuration and sizes; raises ValueError if a size of the model is larger than `most`."""
    run, sizes = run_from_dict(json.loads(metadata["config"])), json.loads(metadata["sizes"])
    if not isinstance(sizes, list):
        raise ValueError("its sizes are not a list")
    refuse_large_sizes(run.model, sizes, most)
    return run, sizes


def _check_tensors(
    tensors: Mapping[str, Tensor],
    skeleton: Mapping[str, Tensor],
    metadata: Mapping[str, str],
    file_size: int,
) -> None:
    """Raise ValueError if names, types, shapes or counts are not those of the model, or it is far too large.

    skeleton: the model's parameters on the meta device. The values of a sparse weight and their positions are checked
    when they are unpacked.
    """
    sparse = {name for name in skeleton if f"{name}.values" in tensors}
    if sparse and metadata["layout"] == "dense":
        raise ValueError("its layout is dense and it has sparse weights")
    parts = ("shape", "values", *PARTS.get(metadata["layout"], ()))
    refuse_other_names({f"{name}.{part}" for name in sparse for part in parts} | (skeleton.keys() - sparse), tensors)
    for name, parameter in skeleton.items():
        if name not in sparse:
            expect(tensors[name], name, parameter.dtype, list(parameter.shape))
            continue
        shape = tensors[f"{name}.shape"]
        expect(shape, f"{name}.shape", torch.int64, [parameter.dim()])
        if shape.tolist() != list(parameter.shape):
            raise ValueError(f"{name} has shape {shape.tolist()} and must have {list(parameter.shape)}")
    total = sum(parameter.numel() for parameter in skeleton.values())
    held = sum(tensors[f"{name}.values" if name in sparse else name].numel() for name in skeleton)
    if metadata["parameters"] != str(total) or (sparse and metadata["active_parameters"] != str(held)):
        raise ValueError("its tensors are not as many parameters as it says")
    if sum(parameter.nbytes for parameter in skeleton.values()) > LARGEST_GROWTH * file_size:
        model = f"its model of {counted(total, 'parameter')}"
        raise ValueError(f"{model} is more than {LARGEST_GROWTH:,} times as large as it")


def _build(config: ModelConfig, sizes: Sequence[int]) -> nn.Module:
    """A new model; the caller's random numbers stay as they were."""
    with torch.random.fork_rng(devices=[]):
        return config.build(*sizes)


def _unpack(tensors: Mapping[str, Tensor], name: str, parameter: Tensor, layout: str) -> Tensor:
    values = tensors[f"{name}.values"]
    expect(values, f"{name}.values", parameter.dtype, [values.numel()])
    parts = {part: tensors[f"{name}.{part}"] for part in PARTS[layout]}
    try:
        positions = unpack_positions(parts, *_matrix(parameter), values.numel(), layout)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    dense = torch.zeros(parameter.numel(), dtype=parameter.dtype)
    dense[positions] = values
    return dense.view(parameter.shape)


def holds(loaded: nn.Module, model: nn.Module, topology: SparseTopology) -> bool:
    """Whether a model that was read back has the weights that were written; NaN is equal to NaN."""
    pairs = zip(loaded.parameters(), dense_weights(model, topology), strict=True)
    return all(torch.allclose(read, written, rtol=0, atol=0, equal_nan=True) for read, (_, written) in pairs)

"""A trained model as one safetensors file from which it can be rebuilt without its run; exported.py has its format."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sparse_rnn.core.errors import ConfigError, RunFailed
from sparse_rnn.core.tensor_files import read_tensors, save_tensors
from sparse_rnn.data.base import has_words, reads_numbers
from sparse_rnn.inference.exported import FORMAT, VERSION, load_exported, matrix_shape, stored_dtype
from sparse_rnn.inference.load import (
    kept_tokenizer,
    last_weights,
    load_best,
    load_data,
    read_run,
    reraise_damaged,
    vocabulary_of,
)
from sparse_rnn.inference.sparse_indices import PARTS, pack_positions
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.sparsity.topology import SparseTopology

ONNX = "onnx"  # the one format that is not read back here


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


def export_folder(
    folder: RunFolder, path: Path, layout: str, weights: str, values: str, told: Mapping[str, Any] | None = None
) -> ExportedSize:
    """Write the best, averaged or raw weights of a run to `path`; raises ConfigError, RunFailed, OSError.

    layout: one of LAYOUTS, or onnx. values: fp32, fp16 or bf16, the type of all parameters in the file. told: the
    configuration that the file tells, if it is not to tell all of the run's.
    """
    record, run = read_run(folder)
    if layout in PARTS and not run.sparsifier.masked:
        raise ConfigError(
            f"{folder.path} is a run of sparsifier={run.sparsifier.name}, which has no masks: use format=dense."
        )
    if layout == ONNX and reads_numbers(run.dataset):
        raise ConfigError(
            f"{folder.path} is a run of dataset={run.dataset.name}, whose steps are numbers, and the graphs of "
            "format=onnx read tokens: use another format."
        )
    about = {"run": folder.path.name, "config": told or record["config"], "sizes": record["sizes"]}
    tokenizer = kept_tokenizer(folder, record)
    if has_words(run.dataset):
        about |= vocabulary_of(folder, tokenizer)

    def write(model: nn.Module, topology: SparseTopology, origin: str) -> ExportedSize:
        facts = {**about, "weights": origin}
        if layout == ONNX:
            return _write_graph(path, run.model.build(*record["sizes"]), model, topology, facts)
        return _write_and_compare(path, model, topology, layout, values, facts)

    with reraise_damaged():
        if weights == "best":
            return write(*load_best(run, record["sizes"], folder))
        data = tokenizer.no_text(record["sizes"]) if tokenizer else load_data(folder, record, run)
        with last_weights(run, data, folder, weights, torch.device("cpu")) as (trainer, origin):
            return write(trainer.model, trainer.topology, origin)


@torch.no_grad()
def _write_graph(
    path: Path, dense: nn.Module, model: nn.Module, topology: SparseTopology, about: Mapping[str, Any]
) -> ExportedSize:
    """Write the graph of the dense equivalent, for which `dense` is given. Raises ConfigError, RunFailed."""
    from sparse_rnn.inference.onnx_graph import save_onnx  # an extra brings what it imports

    for parameter, (_, weight) in zip(dense.parameters(), dense_weights(model, topology), strict=True):
        parameter.copy_(weight)
    save_onnx(path, dense, about)
    count = sum(parameter.numel() for parameter in dense.parameters())
    size = sum(parameter.nbytes for parameter in dense.parameters())
    return ExportedSize(path.stat().st_size, dense=size, values=size, positions=0, held=count, parameters=count)


def _write_and_compare(
    path: Path, model: nn.Module, topology: SparseTopology, layout: str, values: str, about: Mapping[str, Any]
) -> ExportedSize:
    """Write the file and read it back. Raises ConfigError, DamagedFile, RunFailed."""
    save_exported(path, model, topology, layout, about, values)
    if not holds(load_exported(path), model, topology, values):
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
    path: Path, model: nn.Module, topology: SparseTopology, layout: str, about: Mapping[str, Any], values: str = "fp32"
) -> None:
    """Write the file atomically; `about`: run, config, sizes, weights and vocabulary (or none) of the metadata.

    Raises ConfigError if a weight is too large for the type that `values` names, and OSError.
    """
    sparse = {weight.name: weight for weight in topology} if layout in PARTS else {}
    tensors: dict[str, Tensor] = {}
    total = 0
    for name, dense in dense_weights(model, topology):
        total += dense.numel()
        rounded = _rounded(name, dense, values)
        if name in sparse:
            parts = _pack(rounded, sparse[name].mask.cpu(), layout)
            tensors |= {f"{name}.{part}": tensor for part, tensor in parts.items()}
        else:
            tensors[name] = rounded.contiguous()
    inactive = topology.size - topology.active
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "layout": layout,
        "values": values,
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


def _rounded(name: str, dense: Tensor, values: str) -> Tensor:
    """A parameter in the type of the file; raises ConfigError if a number becomes infinite."""
    rounded = dense.to(stored_dtype(dense, values))
    if rounded.dtype != dense.dtype and bool((rounded.isinf() & ~dense.isinf()).any()):
        largest = dense[dense.isfinite()].abs().max()
        raise ConfigError(f"values={values} cannot hold {name}, whose largest entry is {largest:.3g}: use values=fp32.")
    return rounded


def _pack(dense: Tensor, mask: Tensor, layout: str) -> dict[str, Tensor]:
    positions = mask.flatten().nonzero().flatten()
    return {
        "shape": torch.tensor(dense.shape),
        "values": dense.flatten()[positions],
        **pack_positions(positions, *matrix_shape(dense), layout),
    }


def holds(loaded: nn.Module, model: nn.Module, topology: SparseTopology, values: str = "fp32") -> bool:
    """Whether a model that was read back has the weights that were written, as rounded; NaN is equal to NaN."""
    pairs = zip(loaded.parameters(), dense_weights(model, topology), strict=True)
    return all(
        torch.allclose(read, written.to(stored_dtype(written, values)).to(read.dtype), rtol=0, atol=0, equal_nan=True)
        for read, (_, written) in pairs
    )

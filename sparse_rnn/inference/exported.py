"""The file that export writes: what it may hold, and how a model is read from it. The file need not be trusted.

Every parameter is a tensor of its name; tied weights are stored once, under the first of their names. With the layouts
csr, coo and packed a sparse weight is stored under `<name>.` instead: shape, int64 [dimensions]; values [n], those of
the active entries in row-major order; and their positions, see sparse_indices.py (of more than two dimensions, all but
the first count as columns). The metadata are texts: `METADATA`.
"""

import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from sparse_rnn.config.schema import Run
from sparse_rnn.config.stored import run_from_dict
from sparse_rnn.core.errors import ConfigError, DamagedFile
from sparse_rnn.core.tensor_files import CHECKSUM, read_tensors
from sparse_rnn.core.wording import counted
from sparse_rnn.data.base import has_words
from sparse_rnn.data.tokenizers import Tokenizer, from_json
from sparse_rnn.inference.find_model import exported_file
from sparse_rnn.inference.load import give_tokenizer
from sparse_rnn.inference.sparse_indices import PARTS, expect, unpack_mask, unpack_positions
from sparse_rnn.inference.untrusted import UNREADABLE, reason, refuse_large_sizes, refuse_other_names, skeleton_of

FORMAT, VERSION = "sparse_rnn", "1"

LAYOUTS = (*PARTS, "dense")
VALUES = {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}
METADATA = {
    "format": "sparse_rnn",
    "version": "of this format",
    "layout": "csr, coo, packed or dense",
    "values": "the type of all parameters in the file: fp32, fp16 or bf16; files of before have none and are fp32",
    "run": "the run's id",
    "config": "its configuration, JSON",
    "sizes": "what the model is built for, JSON: the number of words, and for a classifier the number of classes",
    "weights": "which of the run's weights these are",
    "sparsity": "inactive share of the sparse weights",
    "parameters": "their number",
    "active_parameters": "those that are not masked; csr, coo and packed hold no others",
    "vocabulary": "the words by number, the classes, and the SHA-256 of the data, JSON; files of before have none",
    CHECKSUM: "of the tensors and the other metadata; a file without it is not compared with it",
}
LATER = {"vocabulary", "values", CHECKSUM}  # those that older files lack

LARGEST_GROWTH = 1000  # from a file to its model in memory: a file that grows more is an attempt to fill the memory


@dataclass(frozen=True)
class Exported:
    """What a file holds, checked but for the positions of sparse weights, which are checked when they are unpacked.

    sizes: what the model is built for. skeleton: the model on the meta device.
    """

    run: Run
    sizes: list[int]
    skeleton: nn.Module
    tensors: Mapping[str, Tensor]
    metadata: Mapping[str, str]

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The model's parameters by name, on the meta device; tied ones once."""
        return dict(self.skeleton.named_parameters())

    @property
    def sparse(self) -> dict[str, nn.Parameter]:
        """Those that are stored as active values alone."""
        return {name: parameter for name, parameter in self.parameters.items() if name not in self.tensors}

    def active(self, name: str) -> int:
        """The number of active entries of a sparse weight."""
        return self.tensors[f"{name}.values"].numel()

    def values(self, name: str) -> Tensor:
        """The active entries of a sparse weight in row-major order, or any other parameter as it is, in full width."""
        stored = self.tensors.get(name)
        return (self.tensors[f"{name}.values"] if stored is None else stored).to(self.parameters[name].dtype)

    def mask(self, name: str) -> Tensor:
        """The mask of a sparse weight, bool [rows, columns]. Raises ValueError."""
        with _naming(name):
            return unpack_mask(*self._positions(name))

    def dense(self, name: str) -> Tensor:
        """Any parameter in its shape, zero where inactive. Raises ValueError."""
        parameter, values = self.parameters[name], self.values(name)
        if name in self.tensors:
            return values
        with _naming(name):
            positions = unpack_positions(*self._positions(name))
        dense = torch.zeros(parameter.numel(), dtype=parameter.dtype)
        dense[positions] = values
        return dense.view(parameter.shape)

    def _positions(self, name: str) -> tuple[dict[str, Tensor], int, int, int, str]:
        """What sparse_indices.py unpacks."""
        layout = self.metadata["layout"]
        parts = {part: self.tensors[f"{name}.{part}"] for part in PARTS[layout]}
        return parts, *matrix_shape(self.parameters[name]), self.active(name), layout


def matrix_shape(weight: Tensor) -> tuple[int, int]:
    """Rows and columns of a weight, seen as a matrix."""
    return weight.shape[0], math.prod(weight.shape[1:])


@contextmanager
def _naming(weight: str) -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{weight}: {error}") from error


@contextmanager
def refusing(path: Path) -> Iterator[None]:
    """Turn whatever goes wrong with the content of a file into DamagedFile."""
    try:
        yield
    except UNREADABLE as error:
        raise DamagedFile(f"{path} does not hold an exported model ({reason(error)}).") from error


def load_exported(name: Path | str, *, revision: str | None = None) -> nn.Module:
    """The model in evaluation mode, dense, on the CPU; the file need not be trusted.

    name: a file that `export` wrote; a folder of `export format=hub`; `OWNER/NAME` of a model hub, by huggingface_hub;
    or `example`, the model that comes with sparse_rnn. What is a file or folder here goes first. revision: a branch,
    tag or commit of the hub. Raises ConfigError for a name that leads to no file, DamagedFile.

    The model reads and writes text by `encode` and `decode`, and a classifier's `classes` are the names of its classes.
    Nothing is allocated at a size that the file claims before its tensors have confirmed that size.
    """
    path = exported_file(name, revision)
    return dense_model(path, read_exported(path))


def dense_model(path: Path, exported: Exported) -> nn.Module:
    """The model of a file that was read, dense, in evaluation mode. Raises DamagedFile."""
    # The caller's random numbers stay as they were.
    with refusing(path), torch.random.fork_rng(devices=[]), torch.no_grad():
        model: nn.Module = exported.run.model.build(*exported.sizes)
        give_tokenizer(model, exported.metadata, exported.sizes)
        for name, parameter in model.named_parameters():
            parameter.copy_(exported.dense(name))
    return model.eval()


def exported_tokenizer(path: Path, exported: Exported) -> Tokenizer:
    """The tokenizer in a file; raises ConfigError if it has none, DamagedFile."""
    if not has_words(exported.run.dataset):
        raise ConfigError(f"{path} is of data without words: evaluate its run, by run=ID.")
    if "vocabulary" not in exported.metadata:
        raise ConfigError(f"{path} has no vocabulary: export its run again, which has one if this version trained it.")
    with refusing(path):
        return from_json(exported.metadata["vocabulary"].encode(), exported.sizes)


def read_exported(path: Path) -> Exported:
    """What a file holds; raises DamagedFile."""
    with refusing(path):
        tensors, metadata = _read(path)
        run, sizes = _described(metadata, most=path.stat().st_size)
        skeleton = skeleton_of(run.model, sizes, 2 * len(tensors))  # tied weights count twice
        _check_tensors(tensors, dict(skeleton.named_parameters()), metadata, path.stat().st_size)
    return Exported(run, sizes, skeleton, tensors, metadata)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    tensors, metadata = read_tensors(path)
    metadata.setdefault("values", "fp32")
    if missing := METADATA.keys() - LATER - metadata.keys():
        raise ValueError(f"its metadata have no {', '.join(sorted(missing))}")
    if (metadata["format"], metadata["version"]) != (FORMAT, VERSION):
        raise ValueError(f"it is {metadata['format']!r} of version {metadata['version']!r}, not {VERSION}")
    for key, known in (("layout", LAYOUTS), ("values", VALUES)):
        if metadata[key] not in known:
            raise ValueError(f"its {key} {metadata[key]!r} is none of {', '.join(known)}")
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

    skeleton: the model's parameters on the meta device. The positions of sparse weights are checked later.
    """
    sparse = {name for name in skeleton if f"{name}.values" in tensors}
    if sparse and metadata["layout"] == "dense":
        raise ValueError("its layout is dense and it has sparse weights")
    parts = ("shape", "values", *PARTS.get(metadata["layout"], ()))
    refuse_other_names({f"{name}.{part}" for name in sparse for part in parts} | (skeleton.keys() - sparse), tensors)
    for name, parameter in skeleton.items():
        dtype = stored_dtype(parameter, metadata["values"])
        if name not in sparse:
            expect(tensors[name], name, dtype, list(parameter.shape))
            continue
        if parameter.dim() < 2:
            raise ValueError(f"{name} is no matrix and stored as sparse")  # the kernels read a bias whole
        values, shape = tensors[f"{name}.values"], tensors[f"{name}.shape"]
        expect(values, f"{name}.values", dtype, [values.numel()])
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


def stored_dtype(parameter: Tensor, values: str) -> torch.dtype:
    """The type in which a parameter is stored; with fp32 it is its own."""
    return parameter.dtype if values == "fp32" or not parameter.is_floating_point() else VALUES[values]

"""Files that are whole or not there: the checkpoint to resume from, and the weights that are kept."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from sparse_rnn.sparsity.topology import SparseTopology, SparseWeight, pack_bits, unpack_bits


class DamagedFile(RuntimeError):
    """A file of a run that cannot be read back."""


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """A temporary path that takes the place of `path` once written; on an error the old file stays as it was."""
    draft = path.with_name(f".{path.name}.tmp")
    try:
        yield draft
        with draft.open("rb+") as stream:
            os.fsync(stream.fileno())
        draft.replace(path)
        _sync_folder(path.parent)
    finally:
        draft.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with atomic(path) as draft:
        draft.write_text(text, encoding="utf-8")


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint atomically; `state` holds tensors, numbers, texts, lists and dictionaries only.

    Raises OSError if the disk is full or the folder cannot be written.
    """
    with atomic(path) as draft:
        try:
            torch.save(dict(state), draft)
        except RuntimeError as error:  # torch reports a failed write so
            raise OSError(f"writing {path.name} failed: {str(error).splitlines()[0]}") from error


def load_checkpoint(path: Path) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote, on the CPU, or None; runs no code from the file. Raises DamagedFile."""
    if not path.exists():
        return None
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise DamagedFile(f"{path} is damaged: remove it to start the run anew.") from error
    assert isinstance(state, dict)
    return state


def rng_state() -> dict[str, Any]:
    """The states of torch's global generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return {"cpu": torch.get_rng_state(), "cuda": cuda}


def restore_rng(state: Mapping[str, Any]) -> None:
    """Put the generators back."""
    torch.set_rng_state(state["cpu"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"][: torch.cuda.device_count()])


def save_weights(path: Path, model: nn.Module, topology: SparseTopology, metadata: Mapping[str, str]) -> None:
    """Write a model's weights as safetensors: of sparse weights the active values and the packed mask.

    `<name>.values` float [active] in row-major order, `<name>.mask` uint8 [ceil(n / 8)], `<name>.shape` int64; others
    as they are. Weights that are tied are written once.
    """
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
    save_tensors(path, tensors, metadata)


def save_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file atomically. Raises OSError if the disk is full or the folder cannot be written."""
    with atomic(path) as draft:
        try:
            save_file(dict(tensors), draft, dict(metadata))
        except SafetensorError as error:
            raise OSError(f"writing {path.name} failed: {error}") from error


@torch.no_grad()
def load_weights(path: Path, model: nn.Module, topology: SparseTopology) -> dict[str, str]:
    """Read what `save_weights` wrote into a model and its topology; returns the metadata.

    Raises DamagedFile if the file cannot be read or is not of this model.
    """
    try:
        with safe_open(path, framework="pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            metadata = dict(stored.metadata() or {})
        _restore(tensors, dict(model.named_parameters()), {weight.name: weight for weight in topology})
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise DamagedFile(
            f"{path} does not hold the weights of this run ({error}): move its folder away to train the run anew."
        ) from error
    return metadata


def _restore(
    tensors: Mapping[str, Tensor], parameters: Mapping[str, nn.Parameter], sparse: Mapping[str, SparseWeight]
) -> None:
    for name, parameter in parameters.items():
        if name in sparse:
            weight = sparse[name]
            if tensors[f"{name}.shape"].tolist() != list(weight.shape):
                raise ValueError(f"{name} has shape {tensors[f'{name}.shape'].tolist()}")
            weight.set_mask(unpack_bits(tensors[f"{name}.mask"], weight.shape))
            parameter.copy_(weight.loaded(tensors[f"{name}.values"].to(parameter.device)))
        else:
            parameter.copy_(tensors[name])


def keep_finished(folder: Path, keep: str) -> None:
    """Remove what need not be kept of a finished run; best: only the best weights, last: also the checkpoint."""
    if keep != "last":
        (folder / "checkpoint.pt").unlink(missing_ok=True)
    if keep == "none":
        (folder / "best.safetensors").unlink(missing_ok=True)

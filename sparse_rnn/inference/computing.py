"""What computes with a trained model: the sparse kernels where they are faster, otherwise masked dense weights."""

from pathlib import Path

import torch
from torch import Tensor, nn

from sparse_rnn.backends.choice import crossover, small
from sparse_rnn.backends.cpu.compile import kernels
from sparse_rnn.backends.cpu.convert import give_classes, unsupported, use_sparse_kernels
from sparse_rnn.backends.cpu.memory import lasting_memory
from sparse_rnn.backends.cpu.storage import Packed
from sparse_rnn.backends.cpu.structure import Structure
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.inference.exported import Exported, dense_model, refusing
from sparse_rnn.inference.load import give_tokenizer
from sparse_rnn.sparsity.topology import SparseTopology, SparseWeight

DENSE, MASKED, KERNELS = "dense weights", "masked dense weights", "sparse kernels"


def use_threads(number: int | None) -> None:
    """Let torch use so many threads; None: as many as it chooses."""
    if number is not None:
        torch.set_num_threads(number)


def use_kernels_if_faster(model: nn.Module, topology: SparseTopology) -> str:
    """Let the sparse kernels write text if the model is sparse and large enough; returns what computes, in a phrase."""
    if instead := _instead_of_kernels(model, topology):
        return instead
    use_sparse_kernels(model, topology)
    return KERNELS


def computing_model(path: Path, exported: Exported, *, windows: bool) -> tuple[nn.Module, str]:
    """The model of a file in evaluation mode, on the CPU, and what computes, in a phrase. Raises DamagedFile.

    windows: it reads windows of many tokens, for which the kernels are faster only up to a density; it reads one token
    at a time otherwise.
    """
    topology = _unfilled(exported)
    instead = _instead_of_kernels(exported.skeleton, topology)
    if windows and not instead:
        limit = crossover(exported.skeleton)
        if (density := sum(map(exported.active, exported.sparse)) / topology.size) > limit:
            instead = f"{MASKED}, which are faster above {limit:.0%} of active entries, and {density:.0%} are active"
    if not instead and _has_other_tensors(exported.skeleton):
        instead = f"{MASKED}, since the model has tensors beside its parameters"
    if instead:
        return dense_model(path, exported), instead
    return kernel_model(path, exported)[0], KERNELS


def _instead_of_kernels(model: nn.Module, topology: SparseTopology) -> str:
    """What else computes, and why, in a phrase; empty if the kernels do. Works on the meta device."""
    if not len(topology):
        return DENSE
    if small(topology):
        return MASKED + ", which are faster at this size"
    if unknown := unsupported(model, topology):
        return f"{MASKED}: the kernels do not support the module that uses {', '.join(unknown)}"
    try:
        kernels()
    except ConfigError as error:
        return f"{MASKED}: {str(error).rstrip('.')}"
    return ""


def kernel_model(path: Path, exported: Exported) -> tuple[nn.Module, SparseTopology]:
    """The model of a file in evaluation mode, computed by the kernels, and its topology. Raises DamagedFile.

    The skeleton becomes the model. No sparse weight is ever dense: beside the values there is the mask of one weight at
    a time, a byte for each entry, and the position of each active one, eight bytes.
    """
    model, topology = exported.skeleton, _unfilled(exported)
    filled: dict[Tensor, nn.Parameter] = {}
    structures: dict[Tensor, Structure] = {}
    with refusing(path), lasting_memory():
        give_tokenizer(model, exported.metadata, exported.sizes)
        for name, parameter in exported.parameters.items():
            if name not in exported.sparse:
                filled[parameter] = nn.Parameter(exported.values(name).clone())
                continue
            structure = Structure(exported.mask(name))
            filled[parameter] = nn.Parameter(structure.arrange(exported.values(name)))
            structures[filled[parameter]] = structure
        for weight in topology:
            weight.parameter = filled[weight.parameter]
            weight.storage = Packed(structures[weight.parameter])
        for module in list(model.modules()):
            for name, own in list(module.named_parameters(recurse=False, remove_duplicate=False)):
                setattr(module, name, filled[own])
        give_classes(model, structures)
    return model.eval(), topology


def _unfilled(exported: Exported) -> SparseTopology:
    """The sparse weights of the skeleton; their masks are on the meta device, too (`ones_like` would import sympy)."""
    return SparseTopology(
        [
            SparseWeight(name, parameter, torch.empty(parameter.shape, dtype=torch.bool, device="meta"), {}, None)
            for name, parameter in exported.sparse.items()
        ]
    )


def _has_other_tensors(model: nn.Module) -> bool:
    """Whether a model on the meta device lacks more than its parameters: buffers, or tensors that it keeps itself."""
    kept = (value for module in model.modules() for value in vars(module).values())
    return any(True for _ in model.buffers()) or any(isinstance(value, Tensor) for value in kept)

"""Conversion of a model to the kernels: which module takes the place of which."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn

from sparse_rnn.backends.cpu.functions.dropout import FastDropout
from sparse_rnn.backends.cpu.memory import lasting_memory
from sparse_rnn.backends.cpu.modules import (
    SparseDecoder,
    SparseEmbedding,
    SparseHighwayRecurrence,
    SparseLinear,
    SparseONLSTMLayer,
    Structures,
    structure_of,
)
from sparse_rnn.backends.cpu.recurrent import (
    SparseGRU,
    SparseGRUCell,
    SparseLSTM,
    SparseLSTMCell,
    SparseRNN,
    SparseRNNCell,
)
from sparse_rnn.backends.cpu.storage import Packed
from sparse_rnn.backends.cpu.structure import Structure
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.models.base import Decoder
from sparse_rnn.models.layers.highway import HighwayRecurrence
from sparse_rnn.models.layers.lstm import LSTM
from sparse_rnn.models.layers.ordered_neurons import ONLSTMLayer
from sparse_rnn.sparsity.topology import SparseTopology

# Modules that stay the same object and get another class.
SWAPPED: dict[type[nn.Module], Any] = {
    nn.LSTM: SparseLSTM,
    LSTM: SparseLSTM,
    nn.GRU: SparseGRU,
    nn.RNN: SparseRNN,
    nn.LSTMCell: SparseLSTMCell,
    nn.GRUCell: SparseGRUCell,
    nn.RNNCell: SparseRNNCell,
}


def use_sparse_kernels(model: nn.Module, topology: SparseTopology) -> None:
    """Convert a model in place: parameters of sparse weights hold active values alone, and it computes with these.

    The parameters stay the same objects under the same names. An optimizer may hold them, but no state of them yet.
    Raises ConfigError, before anything is changed, if nothing here replaces a module that uses a sparse weight.
    """
    sparse = {weight.parameter for weight in topology}
    if unknown := unsupported(model, topology):
        raise ConfigError(
            f"The kernels do not support the module that uses {', '.join(unknown)}: use sparsifier.backend=masked."
        )
    if any(parameter.device.type != "cpu" for parameter in sparse):
        raise ConfigError("The kernels compute on the CPU alone: use sparsifier.backend=masked.")
    with lasting_memory():
        _convert(model, topology, sparse)


def _convert(model: nn.Module, topology: SparseTopology, sparse: set[nn.Parameter]) -> None:
    """Convert the parameters, replace the modules that use them, then all dropouts, which draw faster here."""
    structures: dict[Tensor, Structure] = {}
    for weight in topology:
        structures[weight.parameter] = structure = Structure(weight.mask)
        weight.parameter.data = structure.pack(weight.parameter.data)
        weight.parameter.grad = None
        weight.storage = Packed(structure)
    for parent, name, module in list(_users(model, sparse)):
        replacement = _replacement(module, sparse)
        assert replacement is not None
        setattr(parent, name, replacement(module, structures).train(module.training))
    for parent in list(model.modules()):
        for name, module in parent.named_children():
            if type(module) is nn.Dropout:
                setattr(parent, name, FastDropout(module.p).train(module.training))


def unsupported(model: nn.Module, topology: SparseTopology) -> list[str]:
    """Names of the sparse weights used by a module that nothing here replaces; works on the meta device."""
    sparse = {weight.parameter: weight.name for weight in topology}
    users = [*_users(model, set(sparse)), *([(model, "", model)] if _own(model, set(sparse)) else [])]
    unknown = [module for _, _, module in users if module is model or _replacement(module, set(sparse)) is None]
    return sorted({sparse[parameter] for module in unknown for parameter in _own(module, set(sparse))})


def _users(parent: nn.Module, sparse: set[nn.Parameter]) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Parent, name and module of all that use sparse weights themselves, or that are replaced with all they contain."""
    for name, module in parent._modules.items():
        if module is None:
            continue
        if _own(module, sparse) or _replacement(module, sparse) is not None:
            yield parent, name, module
        else:
            yield from _users(module, sparse)


def _own(module: nn.Module, sparse: set[nn.Parameter]) -> list[nn.Parameter]:
    """The sparse weights of a module itself, not of those that it contains."""
    return [parameter for parameter in module.parameters(recurse=False) if parameter in sparse]


def _replacement(module: nn.Module, sparse: set[nn.Parameter]) -> Callable[[Any, Structures], nn.Module] | None:
    """The class that replaces a module that uses sparse weights; None if it uses none or is not known here."""
    # Exact types, not isinstance: a subclass may compute something else with the same parameters.
    replacement: Callable[[Any, Structures], nn.Module] | None = None
    used = list(module.parameters())
    if type(module) is nn.Linear:
        replacement = SparseLinear
    elif type(module) is Decoder:
        replacement = SparseDecoder
    elif type(module) is nn.Embedding and _only_looks_up(module):
        replacement = SparseEmbedding
    elif (swapped := SWAPPED.get(type(module))) is not None and not swapped.refused(module):
        replacement = partial(_swap, swapped)
    elif type(module) is HighwayRecurrence:
        replacement, used = SparseHighwayRecurrence, list(module.recurrent.parameters())
    elif type(module) is ONLSTMLayer:
        replacement = SparseONLSTMLayer
    return replacement if any(parameter in sparse for parameter in used) else None


def _only_looks_up(module: nn.Embedding) -> bool:
    """Whether an embedding uses no option of torch's that SparseEmbedding lacks."""
    plain = module.padding_idx is None and module.max_norm is None
    return plain and not module.scale_grad_by_freq and not module.sparse


def _swap(swapped: type[nn.Module], module: nn.Module, structures: Structures) -> nn.Module:
    """A recurrent module itself, from now on of the class that computes with the kernels."""
    weights = [name for name, _ in module.named_parameters(recurse=False) if name.startswith("weight")]
    module.__dict__["structures"] = {name: structure_of(getattr(module, name), structures) for name in weights}
    module.__class__ = swapped
    return module

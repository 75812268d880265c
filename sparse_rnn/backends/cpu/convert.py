"""Conversion of a model to the kernels: which class takes the place of which."""

from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from sparse_rnn.backends.cpu.attention import SparseMultiheadAttention
from sparse_rnn.backends.cpu.functions.dropout import FastDropout
from sparse_rnn.backends.cpu.memory import lasting_memory
from sparse_rnn.backends.cpu.modules import (
    SparseDecoder,
    SparseEmbedding,
    SparseHighwayRecurrence,
    SparseLinear,
    SparseONLSTMLayer,
)
from sparse_rnn.backends.cpu.recurrent import (
    SparseGRU,
    SparseGRUCell,
    SparseLSTM,
    SparseLSTMCell,
    SparseRNN,
    SparseRNNCell,
)
from sparse_rnn.backends.cpu.storage import Packed, assign
from sparse_rnn.backends.cpu.structure import Structure
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.models.base import Decoder
from sparse_rnn.models.layers.highway import HighwayRecurrence
from sparse_rnn.models.layers.lstm import LSTM
from sparse_rnn.models.layers.ordered_neurons import ONLSTMLayer
from sparse_rnn.sparsity.topology import SparseTopology

# By exact type, not isinstance: a subclass may compute something else with the same parameters.
SPARSE: dict[type[nn.Module], type[nn.Module]] = {
    nn.Linear: SparseLinear,
    nn.Embedding: SparseEmbedding,
    nn.LSTM: SparseLSTM,
    nn.GRU: SparseGRU,
    nn.RNN: SparseRNN,
    nn.LSTMCell: SparseLSTMCell,
    nn.GRUCell: SparseGRUCell,
    nn.RNNCell: SparseRNNCell,
    nn.MultiheadAttention: SparseMultiheadAttention,
    NonDynamicallyQuantizableLinear: SparseLinear,  # its output projection
    Decoder: SparseDecoder,
    LSTM: SparseLSTM,
    HighwayRecurrence: SparseHighwayRecurrence,
    ONLSTMLayer: SparseONLSTMLayer,
}


def use_sparse_kernels(model: nn.Module, topology: SparseTopology) -> None:
    """Convert a model in place: parameters of sparse weights hold active values alone, and it computes with these.

    Modules and parameters stay the same objects under the same names. An optimizer may hold them, but no state of them
    yet. Raises ConfigError, before anything is changed, if a module that uses a sparse weight is not known here.
    """
    sparse = {weight.parameter for weight in topology}
    if unknown := unsupported(model, topology):
        raise ConfigError(
            f"The kernels do not support the module that uses {', '.join(unknown)}: use sparsifier.backend=masked."
        )
    if any(parameter.device.type != "cpu" for parameter in sparse):
        raise ConfigError("The kernels compute on the CPU alone: use sparsifier.backend=masked.")
    with lasting_memory():
        structures: dict[Tensor, Structure] = {}
        for weight in topology:
            structures[weight.parameter] = structure = Structure(weight.mask)
            assign(weight.parameter, structure.pack(weight.parameter.data))
            weight.storage = Packed(structure)
        give_classes(model, structures)


def give_classes(model: nn.Module, structures: Mapping[Tensor, Structure]) -> None:
    """Let a model compute with sparse weights whose parameters hold active values already.

    structures: by parameter. Dropouts change too: the kernels' draws faster.
    """
    for module in list(readers_of(model, structures)):
        give_class(module, SPARSE[type(module)], weights_of(module, structures), structures)
    for module in model.modules():
        if type(module) is nn.Dropout:
            module.__class__ = FastDropout


def unsupported(model: nn.Module, topology: SparseTopology) -> dict[str, str]:
    """The sparse weights that the kernels cannot compute with, and why, in a phrase; works on the meta device."""
    names = {weight.parameter: weight.name for weight in topology}
    found: dict[str, str] = {}
    for module in model.modules():
        if reason := refusal(module):
            read = weights_of(module) if type(module) in SPARSE else dict(module.named_parameters(recurse=False))
            found |= {names[parameter]: reason for parameter in read.values() if parameter in names}
    return dict(sorted(found.items()))


def refusal(module: nn.Module) -> str:
    """Why no class from here can be given to a module, in a phrase; empty if one can."""
    sparse = SPARSE.get(type(module))
    if sparse is None:
        return f"no kernel computes what {type(module).__name__} does"
    refused = getattr(sparse, "refused", None)
    return str(refused(module)) if refused else ""


def readers_of(model: nn.Module, sparse: Collection[Tensor]) -> Iterator[nn.Module]:
    """The modules whose class changes if these parameters are to hold active values alone, or do already."""
    for module in model.modules():
        if type(module) in SPARSE and any(parameter in sparse for parameter in weights_of(module, sparse).values()):
            yield module


def weights_of(module: nn.Module, packed: Collection[Tensor] = ()) -> dict[str, nn.Parameter]:
    """The weights that a module's class in `SPARSE` computes with, by the names that it knows them by.

    packed: parameters that may hold active values alone; others of one dimension are biases.
    """
    begins = getattr(SPARSE[type(module)], "computes", "")
    named = module.named_parameters(remove_duplicate=False)
    return {name: p for name, p in named if (p.dim() == 2 or p in packed) and name.startswith(begins)}


def give_class(
    module: nn.Module,
    sparse: type[nn.Module],
    weights: Mapping[str, nn.Parameter],
    structures: Mapping[Tensor, Structure],
) -> None:
    """Let a module compute as `sparse` does; a weight that is kept dense gets a structure with all entries."""
    own = {name: structures.get(p) or Structure(torch.ones_like(p, dtype=torch.bool)) for name, p in weights.items()}
    module.__dict__["structures"] = own  # past nn.Module's and RNNBase's __setattr__, which look for parameters
    module.__class__ = sparse

"""Modules that compute with the active entries of their weights alone; each takes the place of a dense one."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from sparse_rnn.backends.cpu.dense_gradient_taps import DroppedContribution, watched_apart
from sparse_rnn.backends.cpu.functions.cross_entropy import linear_cross_entropy
from sparse_rnn.backends.cpu.functions.dropout import FastDropout, dropout
from sparse_rnn.backends.cpu.functions.highway import highway
from sparse_rnn.backends.cpu.functions.lstm import lstm_layer
from sparse_rnn.backends.cpu.functions.mixture import sparse_mixture_cross_entropy
from sparse_rnn.backends.cpu.functions.ordered_neurons import on_lstm_layer
from sparse_rnn.backends.cpu.functions.products import Stored, embedding, linear
from sparse_rnn.backends.cpu.memory import lasting_memory
from sparse_rnn.backends.cpu.operators import operators
from sparse_rnn.backends.cpu.storage import Packed
from sparse_rnn.backends.cpu.structure import Structure
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.models.base import Decoder
from sparse_rnn.models.layers.highway import HighwayRecurrence
from sparse_rnn.models.layers.lstm import LSTM, WEIGHTS, State
from sparse_rnn.models.layers.ordered_neurons import ONLSTMLayer
from sparse_rnn.sparsity.topology import SparseTopology

Structures = Mapping[Tensor, Structure]


def use_sparse_kernels(model: nn.Module, topology: SparseTopology) -> None:
    """From now on the parameters of sparse weights hold active values alone, and the model computes with these.

    The parameters stay the same objects under the same names; an optimizer may hold them, but no state of them yet.
    Raises ConfigError, before anything is changed, if something else than the modules here uses a sparse weight.
    """
    sparse = {weight.parameter for weight in topology}
    if unknown := unsupported(model, topology):
        raise ConfigError(f"The kernels do not know how {', '.join(unknown)} is used: use sparsifier.backend=masked.")
    if any(parameter.device.type != "cpu" for parameter in sparse):
        raise ConfigError("The kernels compute on the CPU alone: use sparsifier.backend=masked.")
    with lasting_memory():
        _convert(model, topology, sparse)


def _convert(model: nn.Module, topology: SparseTopology, sparse: set[nn.Parameter]) -> None:
    structures: dict[Tensor, Structure] = {}
    for weight in topology:
        structures[weight.parameter] = structure = Structure(weight.mask)
        weight.parameter.data = structure.pack(weight.parameter.data)
        weight.parameter.grad = None
        weight.storage = Packed(structure)
    for parent, name, module in list(_users(model, sparse)):
        form = _form(module, sparse)
        assert form is not None
        setattr(parent, name, form(module, structures).train(module.training))
    for parent in list(model.modules()):
        for name, module in parent.named_children():
            if type(module) is nn.Dropout:
                setattr(parent, name, FastDropout(module.p).train(module.training))


def unsupported(model: nn.Module, topology: SparseTopology) -> list[str]:
    """Names of the sparse weights that a module uses for which there is none here."""
    sparse = {weight.parameter: weight.name for weight in topology}
    users = [*_users(model, set(sparse)), *([(model, "", model)] if _own(model, set(sparse)) else [])]
    unknown = [module for _, _, module in users if module is model or _form(module, set(sparse)) is None]
    return sorted({sparse[parameter] for module in unknown for parameter in _own(module, set(sparse))})


def _users(parent: nn.Module, sparse: set[nn.Parameter]) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Parent, name and module of all that use sparse weights themselves or are to be replaced as a whole."""
    for name, module in parent._modules.items():
        if module is None:
            continue
        if _own(module, sparse) or _form(module, sparse) is not None:
            yield parent, name, module
        else:
            yield from _users(module, sparse)


def _own(module: nn.Module, sparse: set[nn.Parameter]) -> list[nn.Parameter]:
    return [parameter for parameter in module.parameters(recurse=False) if parameter in sparse]


def _form(module: nn.Module, sparse: set[nn.Parameter]) -> Callable[[Any, Structures], nn.Module] | None:
    """What takes the place of a module that uses sparse weights; None if it uses none or is not known here."""
    form: Callable[[Any, Structures], nn.Module] | None = None
    used = list(module.parameters())
    if type(module) is nn.Linear:
        form = SparseLinear
    elif type(module) is Decoder:
        form = SparseDecoder
    elif type(module) is nn.Embedding and _only_looks_up(module):
        form = SparseEmbedding
    elif isinstance(module, nn.LSTM) and type(module) in (nn.LSTM, LSTM) and _is_plain(module):
        form = SparseLSTM
    elif type(module) is HighwayRecurrence:
        form, used = SparseHighwayRecurrence, list(module.recurrent.parameters())
    elif type(module) is ONLSTMLayer:
        form = SparseONLSTMLayer
    return form if any(parameter in sparse for parameter in used) else None


def _only_looks_up(module: nn.Embedding) -> bool:
    plain = module.padding_idx is None and module.max_norm is None
    return plain and not module.scale_grad_by_freq and not module.sparse


def _is_plain(module: nn.LSTM) -> bool:
    return module.bias and not (module.batch_first or module.bidirectional or module.proj_size)


class SparseLinear(nn.Linear):
    """The same."""

    def __init__(self, dense: nn.Linear, structures: Structures) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = dense.in_features, dense.out_features
        self.structure = structures[dense.weight]
        self.weight, self.bias = dense.weight, dense.bias

    @property
    def stored(self) -> Stored:
        """The weight."""
        return Stored(self.weight, self.structure)

    def forward(self, x: Tensor) -> Tensor:
        """See nn.Linear."""
        return linear(x, *self.stored, self.bias)


class SparseDecoder(SparseLinear):
    """Decoder."""

    def cross_entropy(self, x: Tensor, targets: Tensor) -> Tensor:
        """See Decoder."""
        return linear_cross_entropy(x, *self.stored, self.bias, targets)

    def mixture_cross_entropy(self, latent: Tensor, log_prior: Tensor, targets: Tensor) -> Tensor:
        """See Decoder."""
        return sparse_mixture_cross_entropy(latent, log_prior, self.stored, self.bias, targets)


class SparseEmbedding(nn.Embedding):
    """The same."""

    def __init__(self, dense: nn.Embedding, structures: Structures) -> None:
        nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim = dense.num_embeddings, dense.embedding_dim
        self.structure = structures[dense.weight]
        self.weight = dense.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """See nn.Embedding."""
        return embedding(tokens, self.weight, self.structure)


class SparseLSTM(nn.Module):
    """LSTM; a weight that is kept dense computes as one all of whose entries are active."""

    def __init__(self, dense: nn.LSTM, structures: Structures) -> None:
        super().__init__()
        self.input_size, self.hidden_size = dense.input_size, dense.hidden_size
        self.num_layers, self.dropout = dense.num_layers, dense.dropout
        for name, parameter in dense.named_parameters(recurse=False):
            self.register_parameter(name, parameter)
        self.structures = {name: _structure(getattr(self, name), structures) for name in self._weights()}

    def _weights(self) -> Iterator[str]:
        return (f"{kind}_l{number}" for number in range(self.num_layers) for kind in WEIGHTS[:2])

    def forward(self, x: Tensor, hidden: State | None = None) -> tuple[Tensor, State]:
        """See nn.LSTM."""
        if hidden is None:
            zeros = x.new_zeros(self.num_layers, x.shape[1], self.hidden_size)
            hidden = zeros, zeros
        carried = []
        for number, state in enumerate(zip(*(torch.split(part, 1) for part in hidden), strict=True)):
            if number:
                x = dropout(x, self.dropout, self.training)
            x, state = self.run_layer(number, x, state)
            carried.append(state)
        h, c = (torch.cat(part) for part in zip(*carried, strict=True))
        return x, (h, c)

    def run_layer(self, number: int, inputs: Tensor, state: State, drop: float = 0.0) -> tuple[Tensor, State]:
        """See LSTM."""
        of_input, recurrent = (self._stored(f"{kind}_l{number}") for kind in WEIGHTS[:2])
        biases = (getattr(self, f"{kind}_l{number}") for kind in WEIGHTS[2:])
        recurrent = drop_connect(recurrent, drop, self.training, inverted=True)
        output, h, c = lstm_layer(inputs, state[0][0], state[1][0], of_input, recurrent, *biases)
        return output, (h[None], c[None])

    def _stored(self, name: str) -> Stored:
        return _stored(getattr(self, name), self.structures[name])


class SparseHighwayRecurrence(HighwayRecurrence):
    """The same; a recurrent weight that is kept dense computes as one all of whose entries are active."""

    def __init__(self, dense: HighwayRecurrence, structures: Structures) -> None:
        nn.Module.__init__(self)
        self.width, self.dropout = dense.width, dense.dropout
        self.input = _part(dense.input, structures)
        layers = cast(list[nn.Linear], list(dense.recurrent))
        self.structures = [_structure(layer.weight, structures) for layer in layers]
        self.recurrent = nn.ModuleList(_part(layer, structures) for layer in layers)

    def unroll(self, x: Tensor, state: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """See HighwayRecurrence."""
        pairs = zip(cast(list[nn.Linear], self.recurrent), self.structures, strict=True)
        layers = [(_stored(layer.weight, structure), layer.bias) for layer, structure in pairs]
        return highway(self.input(x), state, mask, layers)


class SparseONLSTMLayer(ONLSTMLayer):
    """The same; a weight that is kept dense computes as one all of whose entries are active."""

    def __init__(self, dense: ONLSTMLayer, structures: Structures) -> None:
        nn.Module.__init__(self)
        self.hidden, self.chunk, self.p = dense.hidden, dense.chunk, dense.p
        self.structures = [_structure(part.weight, structures) for part in (dense.input, dense.recurrent)]
        self.input, self.recurrent = (_part(part, structures) for part in (dense.input, dense.recurrent))

    def forward(self, x: Tensor, state: State, training: bool) -> tuple[Tensor, State]:
        """See ONLSTMLayer."""
        weights = self.input.weight, self.recurrent.weight
        of_input, recurrent = (_stored(*pair) for pair in zip(weights, self.structures, strict=True))
        recurrent = drop_connect(recurrent, self.p, training, inverted=False)
        states, cell = on_lstm_layer(x, *state, of_input, recurrent, self.input.bias + self.recurrent.bias)
        return states, (states[-1], cell)


def drop_connect(weight: Stored, p: float, training: bool, *, inverted: bool) -> Stored:
    """See dropout.drop_connect; draws for inactive entries too, so that the active ones are dropped as if masked."""
    if p == 0 or (inverted and not training):
        return weight
    values, structure = weight
    if not training:
        return Stored(values * (1 - p), structure)
    drawn, divisor = operators().draw_kept(structure.shape, p), 1 - p if inverted else 1.0
    kept = structure.pack(drawn).to(values.dtype).div_(divisor)
    if structure.factors is not None:
        apart = watched_apart(structure)
        structure.factors.append(DroppedContribution(apart, drawn, divisor))
        structure = apart
    return Stored(values * kept, structure)


def _part(module: nn.Linear, structures: Structures) -> nn.Linear:
    return SparseLinear(module, structures) if module.weight in structures else module


def _structure(parameter: Tensor, structures: Structures) -> Structure:
    """That of a weight; of one that is kept dense, one with all entries."""
    return structures.get(parameter) or Structure(torch.ones_like(parameter, dtype=torch.bool))


def _stored(parameter: Tensor, structure: Structure) -> Stored:
    values = parameter if parameter.dim() == 1 else parameter.flatten()[structure.positions]
    return Stored(values, structure)

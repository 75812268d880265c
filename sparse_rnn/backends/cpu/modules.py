"""Modules that compute with the active entries of their weights alone; each takes the place of a dense one.

A module holds the parameters of the one that it replaces, under the same names, and the structures of the sparse ones.
"""

from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from sparse_rnn.backends.cpu.dense_gradient_taps import DroppedContribution, make_tap
from sparse_rnn.backends.cpu.functions.cross_entropy import linear_cross_entropy
from sparse_rnn.backends.cpu.functions.highway import highway
from sparse_rnn.backends.cpu.functions.mixture import sparse_mixture_cross_entropy
from sparse_rnn.backends.cpu.functions.ordered_neurons import on_lstm_layer
from sparse_rnn.backends.cpu.functions.products import Stored, embedding, linear
from sparse_rnn.backends.cpu.operators import operators
from sparse_rnn.backends.cpu.structure import Structure
from sparse_rnn.models.layers.highway import HighwayRecurrence
from sparse_rnn.models.layers.lstm import State
from sparse_rnn.models.layers.ordered_neurons import ONLSTMLayer

Structures = Mapping[Tensor, Structure]


class SparseLinear(nn.Linear):
    """y = W x + b with a sparse W: nn.Linear whose `weight` holds active values alone, [active]."""

    def __init__(self, dense: nn.Linear, structures: Structures) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = dense.in_features, dense.out_features
        self.structure = structures[dense.weight]
        self.weight, self.bias = dense.weight, dense.bias

    @property
    def stored(self) -> Stored:
        """The values of the weight and their structure."""
        return Stored(self.weight, self.structure)

    def forward(self, x: Tensor) -> Tensor:
        """x [..., C] to [..., R]."""
        return linear(x, *self.stored, self.bias)


class SparseDecoder(SparseLinear):
    """The output layer of a language model, with losses that never hold the logits of all words twice."""

    def cross_entropy(self, x: Tensor, targets: Tensor) -> Tensor:
        """Mean of -log p(target) in nats; x [N, H], targets int64 [N]."""
        return linear_cross_entropy(x, *self.stored, self.bias, targets)

    def mixture_cross_entropy(self, latent: Tensor, log_prior: Tensor, targets: Tensor) -> Tensor:
        """Mean of -log p(target) in nats of a mixture of softmaxes; latent [N, K, E], log_prior [N, K], targets [N]."""
        return sparse_mixture_cross_entropy(latent, log_prior, self.stored, self.bias, targets)


class SparseEmbedding(nn.Embedding):
    """Looks up rows of a sparse weight: nn.Embedding whose `weight` holds active values alone, [active]."""

    def __init__(self, dense: nn.Embedding, structures: Structures) -> None:
        nn.Module.__init__(self)
        self.num_embeddings, self.embedding_dim = dense.num_embeddings, dense.embedding_dim
        self.structure = structures[dense.weight]
        self.weight = dense.weight

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens int64 [...] to [..., C], zero where inactive."""
        return embedding(tokens, self.weight, self.structure)


class SparseHighwayRecurrence(HighwayRecurrence):
    """The recurrence of an RHN with sparse weights (functions/highway.py computes).

    A recurrent weight that is kept dense is computed with as if sparse, with all entries active.
    """

    def __init__(self, dense: HighwayRecurrence, structures: Structures) -> None:
        nn.Module.__init__(self)
        self.width, self.dropout = dense.width, dense.dropout
        self.input = _part(dense.input, structures)
        layers = cast(list[nn.Linear], list(dense.recurrent))
        self.structures = [structure_of(layer.weight, structures) for layer in layers]
        self.recurrent = nn.ModuleList(_part(layer, structures) for layer in layers)

    def unroll(self, x: Tensor, state: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """All states [T, B, H] and the last one; x [T, B, I], state and mask, of variational dropout, [B, H]."""
        pairs = zip(cast(list[nn.Linear], self.recurrent), self.structures, strict=True)
        layers = [(stored_weight(layer.weight, structure), layer.bias) for layer, structure in pairs]
        return highway(self.input(x), state, mask, layers)


class SparseONLSTMLayer(ONLSTMLayer):
    """A layer of an ON-LSTM with sparse weights (functions/ordered_neurons.py computes).

    A weight that is kept dense is computed with as if sparse, with all entries active.
    """

    def __init__(self, dense: ONLSTMLayer, structures: Structures) -> None:
        nn.Module.__init__(self)
        self.hidden, self.chunk, self.p = dense.hidden, dense.chunk, dense.p
        self.structures = [structure_of(part.weight, structures) for part in (dense.input, dense.recurrent)]
        self.input, self.recurrent = (_part(part, structures) for part in (dense.input, dense.recurrent))

    def forward(self, x: Tensor, state: State, training: bool) -> tuple[Tensor, State]:
        """All states [T, B, H], and the last h and c; x [T, B, I], state: h and c, each [B, H]."""
        weights = self.input.weight, self.recurrent.weight
        of_input, recurrent = (stored_weight(*pair) for pair in zip(weights, self.structures, strict=True))
        recurrent = drop_connect(recurrent, self.p, training, inverted=False)
        states, cell = on_lstm_layer(x, *state, of_input, recurrent, self.input.bias + self.recurrent.bias)
        return states, (states[-1], cell)


def drop_connect(weight: Stored, p: float, training: bool, *, inverted: bool) -> Stored:
    """models.layers.dropout.drop_connect for a sparse weight.

    It draws for inactive entries too, so that the active ones are dropped exactly as with masks.
    """
    if p == 0 or (inverted and not training):
        return weight
    values, structure = weight
    if not training:
        return Stored(values * (1 - p), structure)
    drawn, divisor = operators().draw_kept(structure.shape, p), 1 - p if inverted else 1.0
    kept = structure.pack(drawn).to(values.dtype).div_(divisor)
    if structure.contributions is not None:
        tap = make_tap(structure)
        structure.contributions.append(DroppedContribution(tap, drawn, divisor))
        structure = tap
    return Stored(values * kept, structure)


def _part(module: nn.Linear, structures: Structures) -> nn.Linear:
    """A layer inside a replaced module, itself replaced if its weight is sparse."""
    return SparseLinear(module, structures) if module.weight in structures else module


def structure_of(parameter: Tensor, structures: Structures) -> Structure:
    """The structure of a weight; for one that is kept dense, a structure with all entries."""
    return structures.get(parameter) or Structure(torch.ones_like(parameter, dtype=torch.bool))


def stored_weight(parameter: Tensor, structure: Structure) -> Stored:
    """A weight for the kernels: its parameter holds active values [active], or all of a weight that is kept dense."""
    values = parameter if parameter.dim() == 1 else parameter.flatten()[structure.positions]
    return Stored(values, structure)

"""Modules that compute with the active entries of their weights alone.

A module is not replaced but given the class from here that corresponds to its own (convert.py): it keeps its attributes
and parameter objects. `structures` then has the structure of each weight that it computes with, by the name of the
parameter; a weight that is kept dense has a structure with all entries.
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

Structures = Mapping[str, Structure]


class SparseLinear(nn.Linear):
    """y = W x + b with a sparse W: nn.Linear whose `weight` holds active values alone, [active]."""

    structures: Structures

    @property
    def stored(self) -> Stored:
        """The values of the weight and their structure."""
        return Stored(self.weight, self.structures["weight"])

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

    structures: Structures

    @classmethod
    def refused(cls, module: nn.Embedding) -> str:
        """Why an embedding of torch's cannot have this class, as a phrase; empty if it can."""
        options = {"max_norm": module.max_norm is not None, "scale_grad_by_freq": module.scale_grad_by_freq}
        options["sparse"] = module.sparse
        used = [name for name, is_used in options.items() if is_used]
        return f"the kernels have no {' and no '.join(used)} of nn.Embedding" if used else ""

    def forward(self, tokens: Tensor) -> Tensor:
        """tokens int64 [...] to [..., C], zero where inactive."""
        rows = embedding(tokens.long(), self.weight, self.structures["weight"])
        if self.padding_idx is not None:  # which is looked up like others, and never learns
            rows = torch.where((tokens == self.padding_idx)[..., None], rows.detach(), rows)
        return rows


class SparseHighwayRecurrence(HighwayRecurrence):
    """The recurrence of an RHN with sparse weights (functions/highway.py computes)."""

    structures: Structures
    computes = "recurrent."  # what the names of its weights begin with: that of the input belongs to a linear layer

    def unroll(self, x: Tensor, state: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """All states [T, B, H] and the last one; x [T, B, I], state and mask, of variational dropout, [B, H]."""
        layers = zip(cast(list[nn.Linear], self.recurrent), self.structures.values(), strict=True)
        weights = [(stored_weight(layer.weight, structure), layer.bias) for layer, structure in layers]
        return highway(self.input(x), state, mask, weights)


class SparseONLSTMLayer(ONLSTMLayer):
    """A layer of an ON-LSTM with sparse weights (functions/ordered_neurons.py computes)."""

    structures: Structures

    def forward(self, x: Tensor, state: State, training: bool) -> tuple[Tensor, State]:
        """All states [T, B, H], and the last h and c; x [T, B, I], state: h and c, each [B, H]."""
        parts = (self.input.weight, "input.weight"), (self.recurrent.weight, "recurrent.weight")
        of_input, recurrent = (stored_weight(weight, self.structures[name]) for weight, name in parts)
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


def stored_weight(parameter: Tensor, structure: Structure) -> Stored:
    """A weight for the kernels: its parameter holds active values [active], or all of a weight that is kept dense."""
    values = parameter if parameter.dim() == 1 else parameter.flatten()[structure.positions]
    return Stored(values, structure)

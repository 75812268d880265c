"""Intrinsic sparse structures (Wen et al. 2018): all that a hidden unit takes with it when it goes."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.models.rhn import RHN
from sparse_rnn.models.stacked_lstm import StackedLSTM

ROWS_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class Structures:
    """The structures of one layer, one a hidden unit.

    Structure k is made of rows k, k + width, ... (one a gate) of the weights `rows`, and of column k of the weights
    `columns`. An entry in both a row and a column of it counts twice, as in the authors' code. Biases are no part.
    """

    name: str
    width: int
    rows: tuple[str, ...]
    columns: tuple[str, ...]

    def squares(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The sum of squares of each structure, [width]."""
        across = [_squares(weights[name], 1).view(-1, self.width) for name in self.rows]
        down = [_squares(weights[name], 0)[None] for name in self.columns]
        return torch.cat([*across, *down]).sum(0)

    def present(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Which structures have an entry that is not zero (or, of masks, active), bool [width]."""
        across = [tensors[name].any(1).view(-1, self.width) for name in self.rows]
        down = [tensors[name].any(0)[None] for name in self.columns]
        return torch.cat([*across, *down]).any(0)

    def spread(self, values: Tensor, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """A value for each structure [width], laid out to broadcast against each weight that has its entries."""
        for name in self.rows:
            yield name, values.repeat(weights[name].shape[0] // self.width)[:, None]
        for name in self.columns:
            yield name, values


def _squares(weight: Tensor, dim: int) -> Tensor:
    """The sums of squares of a weight along `dim`, in pieces that stay in cache."""
    parts = [part.square().sum(dim) for part in torch.split(weight, ROWS_AT_ONCE)]
    return torch.cat(parts) if dim else torch.stack(parts).sum(0)


def check_structures(model: nn.Module) -> None:
    """Raise ConfigError for a model whose structures are not known."""
    if not isinstance(model, StackedLSTM | RHN):
        raise ConfigError("sparsifier=iss knows the structures of model=stacked_lstm and model=rhn only.")


def find_structures(weights: Mapping[str, Tensor]) -> list[Structures]:
    """The layers of a stacked LSTM or an RHN, from its weights (or their masks) by name, the input's side first.

    LSTM: a unit has its row of each gate of both weights, its column of the recurrent weight and of what reads it:
    the next layer or the decoder. RHN: its row of both gates at all depths, and its column there and in the tied
    embedding.
    """
    if "highway.input.weight" in weights:
        gated = tuple(name for name in weights if name.startswith("highway.") and name.endswith(".weight"))
        width = weights["highway.input.weight"].shape[1]
        return [Structures("highway", width, gated, ("embedding.weight", *gated))]
    recurrent = [name for name in weights if name.startswith("lstm.weight_hh")]
    layers = []
    for k, name in enumerate(recurrent):
        reader = f"lstm.weight_ih_l{k + 1}" if k + 1 < len(recurrent) else "decoder.weight"
        width = weights[name].shape[1]
        layers.append(Structures(f"lstm.l{k}", width, (f"lstm.weight_ih_l{k}", name), (name, reader)))
    return layers


def without_absent(layers: list[Structures], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Masks, by weight name, without the structures that are all zero."""
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    for layer in layers:
        for name, present in layer.spread(layer.present(weights), weights):
            masks[name] &= present
    return masks

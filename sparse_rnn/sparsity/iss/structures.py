"""Computations on intrinsic sparse structures (Wen et al. 2018), which the models declare.

`weights` are tensors by parameter name, for all weights that the structures name.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Protocol, TypeGuard

import torch
from torch import Tensor, nn

from sparse_rnn.core.declarations import Structures
from sparse_rnn.core.errors import ConfigError

ROWS_AT_ONCE = 128


class HasStructures(Protocol):
    """A model that declares the structures of its layers, the input's side first."""

    def structures(self) -> list[Structures]: ...


def _declares_structures(model: object) -> TypeGuard[HasStructures]:
    return callable(getattr(type(model), "structures", None))


def find_structures(model: nn.Module) -> list[Structures]:
    """The structures that a model declares, layer by layer.

    Raises ConfigError if it declares none, or if a declaration does not fit the parameters.
    """
    shapes = {name: parameter.shape for name, parameter in model.named_parameters() if parameter.dim() == 2}
    if not _declares_structures(model):
        raise ConfigError(
            "sparsifier=iss needs a model that declares structures(), as model=stacked_lstm and model=rhn do."
        )
    declared = model.structures()
    for layer in declared:
        for name in (*layer.rows, *layer.columns):
            if name not in shapes:
                raise ConfigError(f"The structures of {layer.name} name {name}, which is not a weight of the model.")
        fits = [shapes[name][0] % layer.width == 0 for name in layer.rows]
        fits += [shapes[name][1] == layer.width for name in layer.columns]
        if not all(fits):
            raise ConfigError(f"The structures of {layer.name} do not fit the shapes of {layer.width} hidden units.")
    return declared


def weights_inside(layers: Sequence[Structures]) -> set[str]:
    """The names of all weights that have entries in a structure."""
    return {name for layer in layers for name in (*layer.rows, *layer.columns)}


def squares(layer: Structures, weights: Mapping[str, Tensor]) -> Tensor:
    """The sum of squares of each structure, [width]."""
    across = [_sums_of_squares(weights[name], 1).view(-1, layer.width) for name in layer.rows]
    down = [_sums_of_squares(weights[name], 0)[None] for name in layer.columns]
    return torch.cat([*across, *down]).sum(0)


def _sums_of_squares(weight: Tensor, dim: int) -> Tensor:
    # Squaring a whole weight at once writes and reads a copy of it in memory; on a CPU, 128 rows stay in the cache.
    if weight.device.type != "cpu":
        return weight.square().sum(dim)
    parts = [part.square().sum(dim) for part in torch.split(weight, ROWS_AT_ONCE)]
    return torch.cat(parts) if dim else torch.stack(parts).sum(0)


def present(layer: Structures, tensors: Mapping[str, Tensor]) -> Tensor:
    """Which structures have an entry that is not zero (or, given masks, an active one), bool [width]."""
    across = [tensors[name].any(1).view(-1, layer.width) for name in layer.rows]
    down = [tensors[name].any(0)[None] for name in layer.columns]
    return torch.cat([*across, *down]).any(0)


def spread(layer: Structures, values: Tensor, weights: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
    """One value per structure [width], shaped to broadcast against each weight: by name, first rows, then columns.

    A weight that is in both is named twice.
    """
    for name in layer.rows:
        yield name, values.repeat(weights[name].shape[0] // layer.width)[:, None]
    for name in layer.columns:
        yield name, values


def without_absent(layers: Sequence[Structures], weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Masks by weight name, bool: False in structures whose entries are all zero."""
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in weights.items()}
    for layer in layers:
        for name, kept in spread(layer, present(layer, weights), weights):
            masks[name] &= kept
    return masks

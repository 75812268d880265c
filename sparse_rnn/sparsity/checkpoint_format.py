"""The states of a model and its optimizer as a checkpoint holds them, independent of how weights are stored.

A run saved with masked dense weights can so be resumed with active entries alone, and the other way round.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_rnn.sparsity.topology import SparseTopology, SparseWeight

Entries = Mapping[str, Any]
Convert = Callable[[SparseWeight, Entries], dict[str, Any]]  # of the entries that belong to one weight


def saved_states(model: nn.Module, optimizer: Optimizer, topology: SparseTopology) -> dict[str, Any]:
    """The states as `model` and `optimizer`; tensors of a sparse weight hold its active entries in row-major order,
    or are dense where inactive entries are not zero."""

    def saved(weight: SparseWeight, entries: Entries) -> dict[str, Any]:
        own = {k: v for k, v in entries.items() if isinstance(v, Tensor) and v.shape == weight.parameter.shape}
        return {**entries, **dict(zip(own, weight.storage.saved(list(own.values())), strict=True))}

    return {
        "model": _converted_model(model, model.state_dict(), topology, saved),
        "optimizer": _converted_optimizer(optimizer, optimizer.state_dict(), topology, saved),
    }


def load_states(model: nn.Module, optimizer: Optimizer, topology: SparseTopology, states: Mapping[str, Any]) -> None:
    """Restore what `saved_states` returned, with either storage; the topology must have been restored before.

    Raises ValueError, RuntimeError or KeyError if something does not fit.
    """

    def loaded(weight: SparseWeight, entries: Entries) -> dict[str, Any]:
        # Numbers such as Adam's step count stay where they are: on a GPU, every step would wait to read them.
        own = {k: v for k, v in entries.items() if isinstance(v, Tensor) and v.dim()}
        return {**entries, **{k: weight.loaded(v.to(weight.parameter.device)) for k, v in own.items()}}

    model.load_state_dict(_converted_model(model, states["model"], topology, loaded))
    optimizer.load_state_dict(_converted_optimizer(optimizer, states["optimizer"], topology, loaded))


def _converted_model(
    model: nn.Module, state: Mapping[str, Tensor], topology: SparseTopology, convert: Convert
) -> dict[str, Tensor]:
    """The model's state with the tensors of sparse weights converted; a tied weight once for all its names."""
    weights = {weight.parameter: weight for weight in topology}
    sparse = {name: weights[p] for name, p in model.named_parameters(remove_duplicate=False) if p in weights}
    converted: dict[str, Tensor] = {}
    for name, tensor in state.items():
        weight = sparse.get(name)
        if weight is not None:
            tensor = converted[weight.name] if weight.name in converted else convert(weight, {name: tensor})[name]
        converted[name] = tensor
    return converted


def _converted_optimizer(
    optimizer: Optimizer, state: Mapping[str, Any], topology: SparseTopology, convert: Convert
) -> dict[str, Any]:
    """The optimizer's state with the tensors of sparse weights converted, AveragedSGD's averages included."""
    weights = {weight.parameter: weight for weight in topology}
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def own(index: int, entries: Mapping[str, Any]) -> dict[str, Any]:
        weight = weights.get(parameters[index])
        if weight is None:
            return dict(entries)
        return convert(weight, entries)

    converted = dict(state) | {"state": {index: own(index, entries) for index, entries in state["state"].items()}}
    if "averages" in state:
        converted["averages"] = [own(index, entries) for index, entries in enumerate(state["averages"])]
    return converted

"""The states of a model and its optimizer as a checkpoint holds them, independent of how weights are stored.

A run saved with masked dense weights can so be resumed with active entries alone, and the other way round.
"""

from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from sparse_rnn.sparsity.topology import SparseTopology, SparseWeight

Convert = Callable[[SparseWeight, Tensor], Tensor]


def saved_states(model: nn.Module, optimizer: Optimizer, topology: SparseTopology) -> dict[str, Any]:
    """The states as `model` and `optimizer`; tensors of a sparse weight are dense, or hold its active entries in
    row-major order."""

    def saved(weight: SparseWeight, tensor: Tensor) -> Tensor:
        return weight.storage.saved(tensor) if tensor.shape == weight.parameter.shape else tensor

    return {
        "model": _converted_model(model, model.state_dict(), topology, saved),
        "optimizer": _converted_optimizer(optimizer, optimizer.state_dict(), topology, saved),
    }


def load_states(model: nn.Module, optimizer: Optimizer, topology: SparseTopology, states: Mapping[str, Any]) -> None:
    """Restore what `saved_states` returned, with either storage; the topology must have been restored before.

    Raises ValueError, RuntimeError or KeyError if something does not fit.
    """

    def loaded(weight: SparseWeight, tensor: Tensor) -> Tensor:
        tensor = tensor.to(weight.parameter.device)
        return weight.loaded(tensor) if tensor.dim() else tensor

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
            tensor = converted[weight.name] if weight.name in converted else convert(weight, tensor)
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
        return {key: convert(weight, v) if isinstance(v, Tensor) else v for key, v in entries.items()}

    converted = dict(state) | {"state": {index: own(index, entries) for index, entries in state["state"].items()}}
    if "averages" in state:
        converted["averages"] = [own(index, entries) for index, entries in enumerate(state["averages"])]
    return converted

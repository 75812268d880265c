"""How large a model is, and how much of it is active."""

from typing import Any

from torch import nn

from sparse_rnn.sparsity.sparsifier import Sparsifier


def parameter_counts(model: nn.Module, sparsifier: Sparsifier) -> dict[str, int]:
    """All parameters, and those that are active once training is over: with ISS that is known only then."""
    # A parameter may hold active entries alone, so sparse weights are counted by their shapes.
    dense = {parameter: parameter.numel() for parameter in model.parameters()}
    sparse = {weight.parameter: weight.size for weight in sparsifier.topology}
    parameters = sum((dense | sparse).values())
    inactive = round(sparsifier.topology.size * sparsifier.final_sparsity)
    return {"parameters": parameters, "active_parameters": parameters - inactive}


def recorded_sizes(model: nn.Module, sparsifier: Sparsifier) -> dict[str, Any]:
    """What a record says of the size: parameters, final sparsity, and the dense signal that growth reads or None."""
    signal = min(sparsifier.needs, default=None)
    return {**parameter_counts(model, sparsifier), "sparsity": sparsifier.final_sparsity, "signal": signal}

"""What is logged of the weights: sparsities, and the number of large weights."""

from torch import nn

from sparse_rnn.sparsity.topology import SparseTopology

LARGE = 0.1


def sparsities(topology: SparseTopology) -> dict[str, float]:
    """The sparsity of the model, of every weight and of every gate, as `sparsity/...`."""
    named = {
        **topology.density(by="model"),
        **topology.density(by="weight"),
        **{key: value for key, value in topology.density(by="gate").items() if not key.endswith("/all")},
    }
    return {f"sparsity/{key}": 1.0 - value for key, value in named.items()}


def large_weights(model: nn.Module, topology: SparseTopology) -> dict[str, int]:
    """How many entries of each weight exceed LARGE in magnitude (Selfish-RNN Figure 3)."""
    sparse = {weight.name for weight in topology}
    return {
        name: int((parameter.data.abs() > LARGE).count_nonzero())
        for name, parameter in model.named_parameters()
        if parameter.dim() >= 2 or name in sparse
    }

"""What a configuration makes before anything is trained: its weights, their gates and counts, the FLOPs of the run."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id
from sparse_rnn.runs.flops import run_flops
from sparse_rnn.sparsity.method import SparsifierConfig, final_counts, make_topology
from sparse_rnn.sparsity.own_settings import glob_of
from sparse_rnn.sparsity.topology import SparseTopology


def describe(overrides: Sequence[str]) -> dict[str, Any]:
    """Facts of a configuration given by Hydra overrides; the model is built on the meta device. Raises ConfigError.

    `sparsity` is the inactive share of the weights kept sparse; `active_parameters` includes biases and dense weights.
    For methods that prune, both are those at the end of training. `groups`: those of `sparsifier.groups`, if there are
    any, and the other weights. `flops_...`: see `run_flops`.
    """
    run = compose_run(overrides)
    sizes = run.dataset.sizes()
    with torch.device("meta"):
        model = run.model.build(*sizes)
    topology = make_topology(run.sparsifier, model)
    active = final_counts(run.sparsifier, topology)
    parameters = sum(p.numel() for p in model.parameters())
    inactive = topology.size - sum(active.values())
    flops = run_flops(run)
    return {
        "run_id": run_id(run),
        "model": run.model.name,
        "sparsifier": run.sparsifier.name,
        "parameters": parameters,
        "active_parameters": parameters - inactive,
        "sparsity": inactive / topology.size if topology.size else 0.0,
        "flops_train": flops.train,
        "flops_test": flops.test,
        "flops_train_ratio": flops.train_ratio,
        "flops_test_ratio": flops.test_ratio,
        "groups": _groups(run.sparsifier, topology, active),
        "weights": [_weight(name, parameter, topology, active) for name, parameter in model.named_parameters()],
    }


def _groups(config: SparsifierConfig, topology: SparseTopology, active: Mapping[str, int]) -> list[dict[str, Any]]:
    """Facts of the weights that each glob in `sparsifier.groups` decides for; `None` is for the others."""
    if not config.groups:
        return []
    deciding = glob_of((weight.name for weight in topology), config.groups)
    found = []
    for glob in (None, *config.groups):
        weights = [weight for weight in topology if deciding[weight.name] == glob]
        size, count = sum(w.size for w in weights), sum(active[w.name] for w in weights)
        facts = {"glob": glob, "weights": [w.name for w in weights], "active": count, "size": size}
        own = config.of_group(glob)
        found += [facts | {"sparsity": 1 - count / size, "removal_rate": own.removal_rate}] if weights else []
    return found


def _weight(name: str, parameter: nn.Parameter, topology: SparseTopology, active: Mapping[str, int]) -> dict[str, Any]:
    """Facts of one weight; gates: [first row, last row + 1] by name, empty if the weight has no gates of its own."""
    sparse = name in active
    count = active.get(name, parameter.numel())
    gates = {gate: [rows.start, rows.stop] for gate, rows in topology[name].gates.items()} if sparse else {}
    return {
        "name": name,
        "shape": list(parameter.shape),
        "gates": {} if list(gates) == ["all"] else gates,
        "sparse": sparse,
        "sparsity": 1 - count / parameter.numel(),
        "active": count,
    }

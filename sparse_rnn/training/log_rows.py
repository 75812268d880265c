"""What the rows of a run's log say, apart from `step` and `epoch`."""

import time
from collections.abc import Mapping
from typing import Any

from torch import nn

from sparse_rnn.sparsity.sparsifier import Clock, Sparsifier, UpdateReport
from sparse_rnn.sparsity.statistics import large_weights, sparsities
from sparse_rnn.training.state import RunState


def topology_facts(sparsifier: Sparsifier, clock: Clock, report: UpdateReport | None) -> dict[str, float]:
    """Sparsities as they are now, the share of entries that have ever been active, what the last update did (None:
    there was none), and the removal rate."""
    explored = {} if sparsifier.explored is None else {"topology/explored": sparsifier.explored}
    updated = {"topology/removed": report.removed, "topology/grown": report.grown} if report else {}
    return {**sparsities(sparsifier.topology), **explored, **updated, **sparsifier.facts(clock)}


def large_weight_facts(model: nn.Module, sparsifier: Sparsifier, kind: str) -> dict[str, int]:
    """The number of large entries of each weight; `kind` says which weights the model holds: raw, or evaluated."""
    counts = large_weights(model, sparsifier.topology)
    return {f"large_weights/{kind}/{name}": count for name, count in counts.items()}


def closing_facts(state: RunState, kept: Mapping[str, Any], schedule: Mapping[str, float]) -> dict[str, Any]:
    """The last row of a finished run: results and size of the weights that were kept as `best/...`, when averaging
    began, and the time."""
    return {
        **{f"best/{name}": value for name, value in kept.items()},
        **schedule,
        "clock/seconds": state.seconds,
        "clock/finished": time.time(),
    }

"""What a run costs in floating-point operations, counted as the papers do (Selfish-RNN appendix L).

Each multiplication by an active weight counts as two operations; biases and element-wise operations do not count. A
training step multiplies three times: forward, for the gradient of the input, and for that of the weight. Looking up an
embedding is free, but the gradient of its weight counts as a product. The dense gradient or the co-activation that
growth reads at an update is not counted (2 in 10,000 with one update per epoch).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch

from sparse_rnn.config.schema import Run
from sparse_rnn.data.labelled.dataset import LabelledDataset
from sparse_rnn.sparsity.method import (
    SparsifierConfig,
    divided,
    final_counts,
    make_schedule,
    make_topology,
    signals_needed,
    start_counts,
)

MOST_UPDATES = 100_000  # whose mean is that of any larger number, to four digits


@dataclass(frozen=True, slots=True)
class Flops:
    """Operations of all training (`train`) and of one test minibatch of the training's size (`test`).

    The ratios are those to the same model, dense. tokens: training tokens of all epochs; it and `train` are None if the
    size of the data is not known.
    """

    train: float | None
    test: float
    train_ratio: float
    test_ratio: float
    tokens: int | None


@dataclass(frozen=True, slots=True)
class _Sequence:
    """A sequence of `length` tokens; reading it multiplies by each weight as often as `uses` says."""

    length: int
    uses: Mapping[str, int]

    def forward(self, active: Mapping[str, float]) -> float:
        """Operations of reading it; `active`: the active entries of each weight."""
        return 2 * sum(uses * active[name] for name, uses in self.uses.items())

    def training(self, active: Mapping[str, float], gradients: Mapping[str, float]) -> float:
        """Operations of a training step; `gradients`: the entries of each weight whose gradient is computed."""
        of_weights = sum((uses or self.length) * gradients[name] for name, uses in self.uses.items())
        return 2 * self.forward(active) + 2 * of_weights


def run_flops(run: Run, densities: Mapping[str, float] | None = None) -> Flops:
    """The FLOPs of a run, from the weights that are active when training begins. Raises ConfigError.

    For pruning, the mean over training counts, and in the test those that are active at its end. densities: measured
    active shares by weight name, which count in training and test instead. Only a run itself knows them with DSR and
    SNFS, which move weights between layers, and with ISS, which is otherwise counted as dense.
    """
    sizes_of_data = run.dataset.sizes()
    with torch.device("meta"):
        model = run.model.build(*sizes_of_data)
    topology = make_topology(run.sparsifier, model)
    length = _sequence_length(run)
    sequence = _Sequence(length, model.weight_uses(length))
    sizes = {name: float(model.get_parameter(name).numel()) for name in sequence.uses}
    tokens = train_tokens(run)
    measured = {name: sizes[name] * density for name, density in (densities or {}).items()}
    last = sizes | final_counts(run.sparsifier, topology) | measured
    active = last
    if run.sparsifier.scheduled:
        active = sizes.copy()
        for own, weights in divided(run.sparsifier, topology):
            density = mean_density(own, _updates(run, tokens, length))
            active |= {weight.name: density * sizes[weight.name] for weight in weights}
        active |= measured
    if dense := _warm_up(run, tokens, length):
        sparse = {weight.name for weight in topology} - measured.keys()
        active = active | {name: active[name] + dense * (sizes[name] - active[name]) for name in sparse}
    trained = sequence.training(active, _gradients(run, active, sizes))
    return Flops(
        train=None if tokens is None else trained / length * tokens,
        test=sequence.forward(last) * run.training.batch,
        train_ratio=trained / sequence.training(sizes, sizes),
        test_ratio=sequence.forward(last) / sequence.forward(sizes),
        tokens=tokens,
    )


def _sequence_length(run: Run) -> int:
    """Tokens of one of the sequences of a batch; the mean length where windows vary."""
    return run.dataset.length if isinstance(run.dataset, LabelledDataset) else run.training.bptt


def mean_densities(run: Run, rows: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """The active share of each sparse weight, averaged over the steps of a run's logged rows.

    So `run_flops(run, mean_densities(run, rows)).train` integrates over the topologies that the run had. Rows hold
    `step` and, if sparsities were logged there, `sparsity/<weight>` as it is from that step on. Raises ConfigError.
    """
    sizes_of_data = run.dataset.sizes()
    with torch.device("meta"):
        topology = make_topology(run.sparsifier, run.model.build(*sizes_of_data))
    sizes = {weight.name: weight.size for weight in topology}
    counts = sizes if run.sparsifier.warms_up else start_counts(run.sparsifier, topology)
    density = {name: counts[name] / size for name, size in sizes.items()}
    total, step = dict.fromkeys(sizes, 0.0), 0
    for row in rows:
        for name in total:
            total[name] += density[name] * (row["step"] - step)
        step = row["step"]
        density = {name: 1.0 - row.get(f"sparsity/{name}", 1.0 - density[name]) for name in sizes}
    return {name: share / step for name, share in total.items()} if step else density


def train_tokens(run: Run) -> int | None:
    """Training tokens of all epochs; None if the size of the data is not known."""
    tokens = run.dataset.train_tokens(run.budget.train_tokens)
    return None if tokens is None else tokens * run.training.epochs


def mean_density(config: SparsifierConfig, updates: int) -> float:
    """Mean density over a training of `updates` intervals, where it changes between those inside its window."""
    schedule, updates = make_schedule(config), min(updates, MOST_UPDATES)
    start, end = config.prune_start, config.prune_end
    inside = {k / updates for k in range(1, updates) if start <= k / updates < end}
    times = [0.0, *sorted(inside | set(schedule.edges[1:-1])), end, 1.0]
    return sum((1 - schedule.sparsity(t)) * (until - t) for t, until in pairwise(times))


def _warm_up(run: Run, tokens: int | None, length: int) -> float:
    """The share of training that is dense; of a number of steps, zero if the size of the data is not known."""
    if run.sparsifier.dense_steps and tokens is not None:
        return min(1.0, run.sparsifier.dense_steps * run.training.batch * length / tokens)
    return run.sparsifier.dense_epochs / run.training.epochs


def _updates(run: Run, tokens: int | None, length: int) -> int:
    """The number of intervals between updates in all of training; epochs if the size of the data is not known."""
    interval = run.sparsifier.update_interval
    if interval == "epoch" or tokens is None:
        return run.training.epochs
    return tokens // (run.training.batch * length) // int(interval)


def _gradients(run: Run, active: Mapping[str, float], sizes: Mapping[str, float]) -> Mapping[str, float]:
    """The entries of each weight whose gradient is computed in every step."""
    if _keeps_momentum(run):
        return sizes
    if "reserve" not in signals_needed(run.sparsifier, run.growth):
        return active
    share = 1 - run.sparsifier.backward_sparsity
    return {name: max(entries, share * sizes[name]) for name, entries in active.items()}


def _keeps_momentum(run: Run) -> bool:
    """Whether every step computes dense gradients, for a momentum; averaging optimizers read them at updates only."""
    return not run.optimizer.averages and "momentum" in signals_needed(run.sparsifier, run.growth)

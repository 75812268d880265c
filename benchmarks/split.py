"""How evenly the kernels' work divides among many threads: computed from the layout, not timed."""

import heapq
from collections.abc import Iterator, Sequence

import torch

from benchmarks.masked_training import BPTT, HIDDEN
from benchmarks.row import Row
from sparse_rnn.backends.cpu.structure import Structure

SPARSITY = 0.80
LEAST = {8: 0.6, 16: 0.45}  # of the threads' time that is used
COLUMNS, UNITS, UNIT = (
    64,
    32,
    250,
)  # of a tile, of a task, and what a unit costs: see csrc/tensors.h and csrc/recurrence.h


def rows() -> Iterator[Row]:
    """Threads' idle time beside their whole time in a layer's window, forward and backward, with 1,500 units."""
    before = torch.get_num_threads()
    for threads, least in LEAST.items():
        torch.set_num_threads(threads)
        mask = torch.rand(4 * HIDDEN, HIDDEN) >= SPARSITY
        weight, transposed = Structure(mask), Structure(mask.t().contiguous())
        for batch in (20, 80):
            idle = 1 - _used(weight, transposed, batch, threads)
            name = f"idle share of {threads} threads by the split alone, batch {batch}, sparsity {SPARSITY:.2f}"
            yield Row(name, idle, 1 - least, 0.0)
    torch.set_num_threads(before)


def _used(weight: Structure, transposed: Structure, batch: int, threads: int) -> float:
    """The share of the threads' time that is used, in the phases of a window with recurrent and input weight alike."""
    groups = -(-batch // COLUMNS)
    width = -(-batch // groups // 16) * 16
    tiles = -(-batch * BPTT // COLUMNS)
    units = [UNIT * UNITS * width] * (groups * HIDDEN // UNITS)
    step = [[entries * width for entries in _panels(each) for _ in range(groups)] for each in (weight, transposed)]
    phases = [*[step[0], units] * BPTT, *[units, step[1]] * BPTT]
    phases.append([entries * COLUMNS for entries in _panels(weight) for _ in range(tiles)])  # the input's product
    phases.append([2 * entries * COLUMNS * tiles for entries in _panels(transposed)])  # both of its gradients
    phases.append([entries * COLUMNS * tiles for entries in _panels(weight)])  # the recurrent weight's gradient
    return sum(map(sum, phases)) / (threads * sum(_longest(phase, threads) for phase in phases))


def _panels(structure: Structure) -> list[int]:
    first, starts = structure.layout[0], structure.layout[1]
    blocks = (starts.numel() - 1) // structure.shape[0]
    return starts[first.long() * blocks].diff().tolist()


def _longest(tasks: Sequence[int], threads: int) -> int:
    """When the last thread ends, if each takes the next task as soon as it is free."""
    free = [0] * threads
    for task in tasks:
        heapq.heapreplace(free, free[0] + task)
    return max(free)

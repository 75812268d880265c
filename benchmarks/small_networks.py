"""Kernels beside masks in small networks, and what an entry that is not computed saves."""

import gc
import time
from collections.abc import Iterator

import torch

from benchmarks.masked_training import BATCH, BPTT, OurStep
from benchmarks.row import Row, least_seconds
from sparse_rnn.backends.cpu.convert import use_sparse_kernels
from sparse_rnn.core.wording import counted

SIZES = ((16, 100), (25, 1_000), (50, 1_000), (100, 1_000), (200, 1_000), (25, 10_000), (50, 10_000), (100, 10_000))
SPARSITIES = (0.67, 0.90)
# On one thread, its own time: what other processes do on the same core disturbs it less.
CLOCKS = {1: time.thread_time, 2: time.perf_counter}
ROUNDS = 12


def steps(hidden: int, words: int, sparsity: float) -> tuple[OurStep, OurStep]:
    """A training step with masks, and the same on the kernels."""
    size = f"model.hidden={hidden}", f"sparsifier.sparsity={sparsity}"
    masked, sparse = (OurStep("sparsifier=selfish", *size, vocabulary=words) for _ in range(2))
    use_sparse_kernels(sparse.model, sparse.topology)
    return masked, sparse


def rows() -> Iterator[Row]:
    """Ratios of times on one thread and on two, and picoseconds saved for each inactive entry and token."""
    before = torch.get_num_threads()
    for hidden, words in SIZES:
        for sparsity in SPARSITIES:
            masked, sparse = steps(hidden, words, sparsity)
            inactive = sum(weight.size - weight.active for weight in masked.topology)
            for threads, clock in CLOCKS.items():
                torch.set_num_threads(threads)
                slow, fast = least_seconds([masked, sparse], ROUNDS, clock)
                name = f"{hidden} units, {words:,} words, {sparsity:.2f}, {counted(threads, 'thread')}"
                yield Row(f"{name}, kernels / masks", fast / slow, None, 1 - sparsity)
                yield Row(f"{name}, saved", 1e12 * (slow - fast) / (inactive * BATCH * BPTT), None, None, "ps")
            del masked, sparse
            gc.collect()
    torch.set_num_threads(before)

"""What a competitor on every core costs: the slowdown of a sparse step or token beside that of a dense one."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from benchmarks.one_token import readers
from benchmarks.row import Row, median_seconds
from benchmarks.sparse_training import ClippedStep, SparseStep

SPARSITY, ROUNDS = 0.67, 15


def rows() -> Iterator[Row]:
    """The slowdowns of a training step and of a token, ours divided by dense torch's."""
    torch.manual_seed(1)
    step = _relative_slowdown(SparseStep(SPARSITY), ClippedStep())
    yield Row(f"slowdown by a competitor on every core, training step at {SPARSITY:.2f} / dense", step, 1.0, None)
    sparse, dense = readers(SPARSITY)
    token = _relative_slowdown(sparse, dense)
    yield Row(f"slowdown by a competitor on every core, token at {SPARSITY:.2f} / dense", token, 1.0, None)


def _relative_slowdown(sparse: Callable[[], object], dense: Callable[[], object]) -> float:
    alone = [median_seconds(each, ROUNDS) for each in (sparse, dense)]
    with competitors():
        beside = [median_seconds(each, ROUNDS) for each in (sparse, dense)]
    return beside[0] / alone[0] / (beside[1] / alone[1])


@contextmanager
def competitors() -> Iterator[None]:
    """A process on every core that never rests."""
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for each in busy:
            each.kill()
            each.wait()

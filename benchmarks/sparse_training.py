"""The kernels of active entries against dense torch: training steps, memory, single products."""

import statistics
import sys
from collections.abc import Iterator

import psutil
import torch
from torch import Tensor, nn

from benchmarks.masked_training import BATCH, BPTT, CLOCK, HIDDEN, OurStep, PlainStep
from benchmarks.row import Row, printed_by, ratio_of_times
from sparse_rnn.backends.cpu.convert import use_sparse_kernels
from sparse_rnn.backends.cpu.functions.products import linear
from sparse_rnn.backends.cpu.operators import operators
from sparse_rnn.backends.cpu.structure import Structure
from sparse_rnn.optim.averaged_sgd import FOLD, AveragedSGD

TRAINING = {0.67: 0.36, 0.80: 0.24, 0.90: 0.14, 0.95: 0.10}
OTHERS = {"rhn": ("RHN", 0.53, 0.40), "on_lstm": ("ON-LSTM", 0.55, 0.36)}  # at their papers' sparsity


class ClippedStep(PlainStep):
    """The plain step with the gradients clipped, as ours are."""

    def __call__(self) -> None:
        """Zero gradients, forward, backward, clip, step."""
        self.optimizer.zero_grad(set_to_none=True)
        self.model.loss(self.window[:-1], self.window[1:]).backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 0.25)
        self.optimizer.step()


class SparseStep(OurStep):
    """A training step on the kernels."""

    def __init__(self, sparsity: float, *overrides: str, method: str = "selfish") -> None:
        super().__init__(f"sparsifier={method}", f"sparsifier.sparsity={sparsity}", *overrides)
        use_sparse_kernels(self.model, self.topology)


def rows() -> Iterator[Row]:
    """The ratios of training steps, memory and single products."""
    torch.manual_seed(1)
    dense = ClippedStep()
    for sparsity, bar in TRAINING.items():
        ratio = ratio_of_times(SparseStep(sparsity), dense)
        yield Row(f"training step at sparsity {sparsity:.2f} / dense torch LSTM", ratio, bar, 1 - sparsity)
    del dense
    for model, (label, sparsity, bar) in OTHERS.items():
        name = f"training step, {label} at sparsity {sparsity} / dense {label}"
        yield Row(name, _other(model, sparsity), bar, 1 - sparsity)
    dense_bytes = _memory("dense", "optimizer=nt_asgd")
    for method, bar in (("selfish", 0.25), ("rigl", None)):
        ratio = _memory(method, "optimizer=snt_asgd", "sparsifier.sparsity=0.9") / dense_bytes
        yield Row(f"memory of training at sparsity 0.90, {method} / dense", ratio, bar, 0.1)
    for sparsity in (0.67, 0.90):
        yield from _products(sparsity)


def _other(model: str, sparsity: float) -> float:
    dense = OurStep(f"model={model}", "sparsifier=dense", "optimizer=nt_asgd")
    return ratio_of_times(SparseStep(sparsity, f"model={model}", "optimizer=snt_asgd"), dense)


def _products(sparsity: float) -> Iterator[Row]:
    """One product of a recurrent weight with all columns of a window: torch's CSR, and ours."""
    mask = torch.rand(4 * HIDDEN, HIDDEN) >= sparsity
    weight, x = torch.randn(4 * HIDDEN, HIDDEN) * mask, torch.randn(BPTT * BATCH, HIDDEN)
    structure = Structure(mask)
    values, compressed, columns = structure.pack(weight), weight.to_sparse_csr(), x.t().contiguous()

    def dense() -> Tensor:
        return x @ weight.t()

    limit = 1 - sparsity
    csr = ratio_of_times(lambda: compressed @ columns, dense)
    yield Row(f"product at sparsity {sparsity:.2f}, torch's CSR / dense", csr, None, limit)
    ours = ratio_of_times(lambda: linear(x, values, structure), dense)
    yield Row(f"product at sparsity {sparsity:.2f}, ours with packing / dense", ours, None, limit)


def _memory(method: str, *overrides: str) -> float:
    """RSS in bytes after averaging began and an update, minus that after the imports: median of five processes."""
    return statistics.median(printed_by("benchmarks.sparse_training", method, *overrides) for _ in range(5))


def _measure_memory(method: str, *overrides: str) -> int:
    import torch._dynamo  # noqa: F401  (the first optimizer step would import it)

    operators()
    process = psutil.Process()
    before = process.memory_info().rss
    step = OurStep(f"sparsifier={method}", *overrides)
    if len(step.topology):
        use_sparse_kernels(step.model, step.topology)
    step()
    assert isinstance(step.optimizer, AveragedSGD)
    step.optimizer.start_averaging()
    if step.run.sparsifier.dynamic:
        step(CLOCK)
        step.sparsifier.update(CLOCK)
    step()
    step.optimizer.steps = FOLD - 1  # the next step folds the sums
    step()
    return int(process.memory_info().rss - before)


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(_measure_memory(*sys.argv[1:]))

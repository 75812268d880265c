"""How a training step on the kernels compares with dense torch over sparsity, batch, threads and size."""

import gc
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pandas as pd
import torch

from benchmarks.masked_training import BPTT, HIDDEN, VOCABULARY, OurStep
from benchmarks.row import Row, ratio_of_times
from sparse_rnn.backends.cpu.convert import use_sparse_kernels

FOLDER = Path(__file__).parent.parent / "results" / "bench"
SPARSITIES = (0.0, 0.3, 0.5, 0.67, 0.8, 0.9, 0.95, 0.99)
BATCHES, THREADS = (1, 20, 80), (1, 2)
SIZES = (100, 200, 400, 650)
SIZES_SPARSITY = 0.67
ROUNDS = 3


class Step(OurStep):
    """A training step whose batch size can be changed."""

    def set_batch(self, batch: int) -> None:
        """Take another window and hidden state, of `batch` sequences."""
        torch.manual_seed(batch)
        self.window = torch.randint(VOCABULARY, (BPTT + 1, batch))
        self.hidden = self.model.initial_hidden(batch)


def steps(sparsity: float, hidden: int = HIDDEN) -> tuple[Step, Step]:
    """A dense step, and one on the kernels at a sparsity."""
    size = f"model.hidden={hidden}"
    dense = Step("sparsifier=dense", "optimizer=nt_asgd", size)
    sparse = Step("sparsifier=static_uniform", f"sparsifier.sparsity={sparsity}", "optimizer=snt_asgd", size)
    use_sparse_kernels(sparse.model, sparse.topology)
    return dense, sparse


def measure() -> Iterator[dict[str, float]]:
    """Sparse time divided by dense time, for every combination of settings."""
    for sparsity in SPARSITIES:
        dense, sparse = steps(sparsity)
        for batch in BATCHES:
            for threads in THREADS:
                torch.set_num_threads(threads)
                for step in (dense, sparse):
                    step.set_batch(batch)
                ratio = ratio_of_times(sparse, dense, rounds=ROUNDS)
                yield {"hidden": HIDDEN, "sparsity": sparsity, "batch": batch, "threads": threads, "ratio": ratio}
        del dense, sparse
        gc.collect()
    for hidden in SIZES:
        dense, sparse = steps(SIZES_SPARSITY, hidden)
        ratio = ratio_of_times(sparse, dense)
        yield {"hidden": hidden, "sparsity": SIZES_SPARSITY, "batch": 20, "threads": 2, "ratio": ratio}


def rows() -> list[Row]:
    """The sparsity from which the kernels are faster, at batch 20 on two threads."""
    data = pd.DataFrame(measure())
    FOLDER.mkdir(parents=True, exist_ok=True)
    data.to_csv(FOLDER / "sparse_sweep.csv", index=False, float_format="%.3f")
    whole = data[data["hidden"] == HIDDEN]
    draw(whole)
    usual = whole[(whole["batch"] == 20) & (whole["threads"] == 2)].sort_values("sparsity")
    return [Row("sparsity at which sparse and dense steps take as long", crossing(usual), None, 0.0)]


def crossing(data: pd.DataFrame) -> float:
    """The sparsity at which the ratio falls to 1, interpolated linearly; 0 if it never does."""
    points = list(zip(data["sparsity"], data["ratio"], strict=True))
    for (left, above), (right, below) in pairwise(points):
        if above >= 1 > below:
            return float(left + (above - 1) / (above - below) * (right - left))
    return 0.0


def draw(data: pd.DataFrame) -> None:
    """Draw one line for each batch and number of threads, and the limit."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for (batch, threads), group in data.groupby(["batch", "threads"]):
        style = {"color": f"C{BATCHES.index(batch)}", "linestyle": "-" if threads == 2 else "--", "marker": "o"}
        axes.plot(group["sparsity"], group["ratio"], label=f"batch {batch}, threads {threads}", markersize=3, **style)
    axes.plot([0, 1], [1, 0], color="black", linewidth=1, label="limit: density")
    axes.axhline(1, color="grey", linewidth=0.8, linestyle=":")
    axes.set(xlabel="sparsity", ylabel="time of a training step, sparse / dense", xlim=(0, 1), ylim=(0, None))
    axes.legend(fontsize=8)
    figure.savefig(FOLDER / "sparse_sweep.png", dpi=150)
    plt.close(figure)

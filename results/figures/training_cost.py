"""Figure 2 of Selfish-RNN: what dense-to-sparse and sparse training cost, computed from the configuration."""

import pandas as pd
import torch

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.wording import counted
from sparse_rnn.runs.flops import run_flops
from sparse_rnn.sparsity.method import make_schedule, make_topology

from .style import Drawing, finish, line, panels, styled

SOURCE = "Selfish-RNN (ICML 2021), Figure 2, computed from the configuration"
POINTS = 100  # in one training


def draw_costs() -> Drawing:
    """Active weights and cost over time: dense, pruned and re-trained, pruned gradually, and sparse from the start."""
    data = costs()
    figure, axes = panels(1, 2)
    with styled():
        for number, (method, curve) in enumerate(data.groupby("method", sort=False)):
            look = dict(line(number), label=str(method), markevery=POINTS // 4)
            axes[0, 0].plot(curve["time"], curve["density"], **look)
            axes[0, 1].plot(curve["time"], curve["cost"], **look)
        axes[0, 0].set(title="Size", ylabel="active share of the weights", ylim=(0, 1.05))
        axes[0, 1].set(title="Cost", ylabel="FLOPs so far / dense training", ylim=(0, None))
        for each in axes[0]:
            each.set_xlabel("time (1: the epochs of one training)")
    run = compose_run(["sparsifier=selfish"])
    epochs = counted(run.training.epochs, "epoch")
    what = f"{run.model.name}, {run.dataset.name}, sparsity {run.sparsifier.sparsity:g}, {epochs}"
    notes = (
        f"Computed for {what}; floating-point operations as the paper counts them.",
        "Every further cycle of pruning and re-training takes as long again.",
    )
    finish(figure, "Cost of dense-to-sparse and of sparse training", SOURCE, notes)
    return Drawing(figure, data, notes)


def costs() -> pd.DataFrame:
    """Columns method, time, density, cost; 1 is the duration of one training, and the FLOPs of a dense one."""
    sparse, gradual = compose_run(["sparsifier=selfish"]), compose_run(["sparsifier=gmp"])
    final = 1.0 - sparse.sparsifier.sparsity
    schedule = make_schedule(gradual.sparsifier)
    methods = {
        "Dense": [1.0] * POINTS,
        "Pruning and re-training": [1.0] * POINTS + [final] * POINTS,
        "Gradual pruning (GMP)": [1.0 - schedule.rate((k + 0.5) / POINTS) for k in range(POINTS)],
        "Selfish-RNN": [final] * POINTS,
    }
    with torch.device("meta"):
        names = [
            weight.name for weight in make_topology(sparse.sparsifier, sparse.model.build(*sparse.dataset.sizes()))
        ]
    rates = {
        density: run_flops(sparse, dict.fromkeys(names, density)).train_ratio
        for density in {each for densities in methods.values() for each in densities}
    }
    parts = []
    for method, densities in methods.items():
        spent = pd.Series([rates[density] / POINTS for density in densities]).cumsum()
        time = [(k + 1) / POINTS for k in range(len(densities))]
        parts.append(pd.DataFrame({"method": method, "time": time, "density": densities, "cost": spent}))
    return pd.concat(parts, ignore_index=True)

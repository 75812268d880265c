"""A first look: python -m sparse_rnn.demo trains a sparse LSTM on the embedded corpus and shows what came out."""

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparse_rnn.config.schema import Run
    from sparse_rnn.runs.folder import RunFolder

OVERRIDES = ["model=stacked_lstm", "dataset=pydoc", "sparsifier=selfish", "budget=demo", "optimizer.lr=20"]
HELP = f"""\
Train a sparse LSTM on the English text that comes with Python, about two minutes, and show what came out.
Same as: python -m sparse_rnn.train {" ".join(OVERRIDES)}
"""
BLOCKS = " ▏▎▍▌▋▊▉█"


def main() -> None:
    """Entry point."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(HELP, end="")
        return
    from sparse_rnn.core import command_line

    command_line.guard(_demo)


def _demo() -> None:
    from sparse_rnn.config.compose import compose_run
    from sparse_rnn.config.identity import run_id
    from sparse_rnn.runs.folder import RunFolder, read_record, runs_root
    from sparse_rnn.training.session import train

    run = compose_run(OVERRIDES)
    print(f"python -m sparse_rnn.train {' '.join(OVERRIDES)}\n", flush=True)
    untrained = _untrained_perplexity(run)
    train(run, OVERRIDES)
    folder = RunFolder(runs_root() / run_id(run))
    record = read_record(folder)
    assert record is not None
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    epochs = [row for row in rows if "valid/loss" in row]
    final = _best_densities(run, folder, record["sizes"])
    print(f"\nperplexity   {untrained:.0f} before, {record['results']['valid/perplexity']:.1f} after (valid)")
    print(f"sparsity     {run.sparsifier.sparsity:.4f} asked, {record['sparsity']:.4f} reached")
    print("density of each gate (asked: the mark)\n")
    print("\n".join(bar_lines(final, 1 - run.sparsifier.sparsity)))
    picture = folder.path / "demo.png"
    _draw(picture, epochs, final, untrained, 1 - run.sparsifier.sparsity)
    print(f"\nThe same as a picture: {picture}")


def _untrained_perplexity(run: "Run") -> float:
    """Validation perplexity of the sparse network before its first step."""
    import torch

    from sparse_rnn.runs.folder import RunFolder
    from sparse_rnn.training.trainer import Trainer

    with tempfile.TemporaryDirectory() as empty:
        trainer = Trainer(run, run.dataset.load(), RunFolder(Path(empty)), torch.device("cpu"), read_only=True)
        return trainer.task.evaluate("valid")["perplexity"]


def _best_densities(run: "Run", folder: "RunFolder", sizes: list[int]) -> dict[str, float]:
    """Density of every gate of the recurrent weights that were kept."""
    from sparse_rnn.inference.load import load_best

    _, topology, _ = load_best(run, sizes, folder)
    return {name: value for name, value in topology.density(by="gate").items() if not name.endswith("/all")}


def bar_lines(densities: dict[str, float], asked: float, width: int = 40) -> list[str]:
    """One bar a gate, from density 0 to 1, with a mark at the density asked for."""
    longest = max(map(len, densities))
    lines = []
    for name, density in densities.items():
        eighths = round(density * width * 8)
        bar = list((BLOCKS[8] * (eighths // 8) + BLOCKS[eighths % 8]).ljust(width)[:width])
        bar[min(round(asked * width), width - 1)] = "|"
        lines.append(f"  {name:<{longest}}  {''.join(bar)}  {density:.3f}")
    return lines


def _draw(
    path: Path, epochs: list[dict[str, Any]], densities: dict[str, float], untrained: float, asked: float
) -> None:
    """Perplexity by epoch, and the density of every gate."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2), layout="constrained")
    left.plot([0] + [row["epoch"] for row in epochs], [untrained] + [row["valid/perplexity"] for row in epochs], "o-")
    left.set(yscale="log", xlabel="epoch", ylabel="validation perplexity", title="Perplexity")
    names = list(densities)
    right.barh(names[::-1], [densities[name] for name in names[::-1]], color="#0072b2")
    right.axvline(asked, color="black", linestyle="--", label="asked of the whole network")
    right.set(xlabel="density", xlim=(0, 1), title="Density of each gate")
    right.tick_params(axis="y", labelsize=8)
    right.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()

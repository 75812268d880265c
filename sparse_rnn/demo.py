"""A first look: python -m sparse_rnn.demo trains a sparse LSTM on the embedded corpus and shows what came out."""

import shutil
from collections.abc import Collection, Mapping

from sparse_rnn.core.command_line import start

OVERRIDES = ["model=stacked_lstm", "dataset=pydoc", "sparsifier=selfish", "budget=demo", "optimizer.lr=20"]
HELP = f"""\
Train a sparse LSTM on the English text that comes with Python, about two minutes, and show what came out.
Same as: python -m sparse_rnn.train {" ".join(OVERRIDES)}
"""
LONGEST, SHORTEST = 40, 8
BLOCKS = " ▏▎▍▌▋▊▉█"


def main() -> None:
    """Entry point."""
    start(_demo, lambda: HELP)


def _demo() -> None:
    from sparse_rnn.inference.demo import train_and_measure

    print(f"python -m sparse_rnn.train {' '.join(OVERRIDES)}\n", flush=True)
    shown = train_and_measure(OVERRIDES)
    print(f"\nperplexity   {shown.untrained:.0f} before, {shown.trained:.1f} after (valid)")
    print(f"sparsity     {shown.sparsity_asked:.4f} asked, {shown.sparsity:.4f} reached")
    print("density of each gate (asked: the mark)\n")
    print("\n".join(bar_lines(shown.densities, 1 - shown.sparsity_asked, bar_width(shown.densities))))
    print(f"\nThe same as a picture: {shown.picture}")


def bar_width(names: Collection[str]) -> int:
    """How long bars may be beside these names and a number, in a terminal or a file."""
    columns = shutil.get_terminal_size(fallback=(1000, 0)).columns
    return max(SHORTEST, min(LONGEST, columns - max(map(len, names)) - len("    " + "  0.000")))


def bar_lines(densities: Mapping[str, float], asked: float, width: int = LONGEST) -> list[str]:
    """One bar per gate, from density 0 to 1, with a mark at the density asked for."""
    longest = max(map(len, densities))
    lines = []
    for name, density in densities.items():
        eighths = round(density * width * 8)
        bar = list((BLOCKS[8] * (eighths // 8) + BLOCKS[eighths % 8]).ljust(width)[:width])
        bar[min(round(asked * width), width - 1)] = "|"
        lines.append(f"  {name:<{longest}}  {''.join(bar)}  {density:.3f}")
    return lines


if __name__ == "__main__":
    main()

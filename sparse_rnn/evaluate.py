"""Evaluate a trained run: python -m sparse_rnn.evaluate run=<id or folder> split=test."""

import sys

from sparse_rnn.core.bounds import check_device
from sparse_rnn.core.command_line import (
    check_weights,
    one_of,
    optional_number,
    optional_threads,
    parse_keys,
    say,
    start,
)
from sparse_rnn.inference.find_run import find_run

DEFAULTS = {"run": "", "split": "test", "weights": "best", "batch": "", "device": "auto", "threads": ""}
SPLITS = ("train", "valid", "test")
HELP = """\
Loss and perplexity (or accuracy) of a trained run on a split of its data.

  python -m sparse_rnn.evaluate run=<id or folder> [split=test] [weights=best] [batch=N] [device=auto] [threads=N]

split      train, valid or test
weights    best: those of the best validation, as they were evaluated then;
           averaged, raw: those of the last checkpoint (of an unfinished run, or one with checkpoint.keep=last)
batch      sequences side by side; as in training if not given
Example:
  python -m sparse_rnn.evaluate run=runs/rhn-ptb-selfish-s1-0a1b2c3d split=valid
"""


def main() -> None:
    """Entry point."""
    start(lambda: say(evaluate(**parse_keys(sys.argv[1:], DEFAULTS))), lambda: HELP)


def evaluate(run: str, split: str, weights: str, batch: str, device: str, threads: str) -> str:
    """A line with the loss and the metric; arguments as on the command line. Raises ConfigError."""
    one_of("split", split, SPLITS)
    check_weights(weights)
    check_device(device)
    sequences, number = optional_number("batch", batch), optional_threads(threads)
    folder = find_run(run)
    from sparse_rnn.inference.evaluate import evaluate_folder

    result, origin = evaluate_folder(folder, split, weights, batch=sequences, device=device, threads=number)
    facts = "  ".join(f"{key} {value:.4f}" for key, value in result.items())
    return f"{folder.path.name}  {split}  {facts}  ({origin} weights)"


if __name__ == "__main__":
    main()

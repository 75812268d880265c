"""Evaluate a trained run: python -m sparse_rnn.evaluate run=<id or folder> split=test."""

import sys

DEFAULTS = {"run": "", "split": "test", "weights": "best", "batch": "", "device": "auto", "threads": ""}
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
    from sparse_rnn.core import command_line

    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(HELP, end="")
        return
    command_line.guard(lambda: print(evaluate(**command_line.parse_keys(arguments, DEFAULTS))))


def evaluate(run: str, split: str, weights: str, batch: str, device: str, threads: str) -> str:
    """A line with the loss and the metric; arguments as on the command line. Raises ConfigError."""
    from sparse_rnn.core.command_line import check_weights, set_threads, whole_number
    from sparse_rnn.core.device import make_device
    from sparse_rnn.core.errors import ConfigError, suggest
    from sparse_rnn.data.corpus import SPLITS
    from sparse_rnn.inference.load import load_data, read_run, reraise_damaged

    if split not in SPLITS:
        raise ConfigError(f"split={split} does not exist{suggest(split, SPLITS)}.")
    check_weights(weights)
    folder, record, config = read_run(run)
    set_threads(threads)
    sizes = {"train": "batch", "valid": "valid_batch", "test": "test_batch"}
    if batch:
        setattr(config.training, sizes[split], whole_number("batch", batch))
    data = load_data(folder, record, config)
    from sparse_rnn.inference.evaluate import evaluate_run

    with reraise_damaged():
        result, origin = evaluate_run(config, data, folder, split, weights, make_device(device))
    facts = "  ".join(f"{key} {value:.4f}" for key, value in result.items())
    return f"{folder.path.name}  {split}  {facts}  ({origin} weights)"


if __name__ == "__main__":
    main()

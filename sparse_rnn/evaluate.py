"""Evaluate a trained run: python -m sparse_rnn.evaluate run=<id or folder> split=test."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparse_rnn.config import Run
    from sparse_rnn.run_folder import RunFolder

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
    from sparse_rnn import command_line

    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(HELP, end="")
        return
    command_line.guard(lambda: print(evaluate(**command_line.parse_keys(arguments, DEFAULTS))))


def evaluate(run: str, split: str, weights: str, batch: str, device: str, threads: str) -> str:
    """A line with the loss and the metric; arguments as on the command line. Raises ConfigError."""
    from sparse_rnn.build import make_device
    from sparse_rnn.checkpoint import DamagedFile
    from sparse_rnn.command_line import whole_number
    from sparse_rnn.data.corpus import SPLITS
    from sparse_rnn.registry import ConfigError, near

    if split not in SPLITS:
        raise ConfigError(f"split={split} does not exist{near(split, SPLITS)}.")
    if weights not in ("best", "averaged", "raw"):
        raise ConfigError(f"weights={weights} must be best, averaged or raw.")
    folder, record, config = read_run(run)
    if threads:
        import torch

        torch.set_num_threads(whole_number("threads", threads))
    sizes = {"train": "batch", "valid": "valid_batch", "test": "test_batch"}
    if batch:
        setattr(config.training, sizes[split], whole_number("batch", batch))
    data = config.dataset.load().limited(config.budget.train_tokens, config.budget.eval_tokens)
    if data.sha256 != record["data_sha256"]:
        raise ConfigError(f"The data are not those that {folder.path} was trained on: their SHA-256 differs.")
    from sparse_rnn.evaluation import evaluate_run

    try:
        result, origin = evaluate_run(config, data, folder, split, weights, make_device(device))
    except DamagedFile as error:
        raise ConfigError(str(error)) from None
    facts = "  ".join(f"{key} {value:.4f}" for key, value in result.items())
    return f"{folder.path.name}  {split}  {facts}  ({origin} weights)"


def read_run(name: str) -> "tuple[RunFolder, dict[str, Any], Run]":
    """Folder, record and configuration of a run given by its id or its path; raises ConfigError."""
    from sparse_rnn.config import run_from_dict
    from sparse_rnn.registry import ConfigError
    from sparse_rnn.run_folder import read_record

    folder = find_run(name)
    record = read_record(folder)
    if record is None:
        raise ConfigError(f"{folder.path} holds no run: its record.json is missing or cannot be read.")
    return folder, record, run_from_dict(record["config"])


def find_run(name: str) -> "RunFolder":
    """The folder of a run given by its id or its path; raises ConfigError naming near matches."""
    from sparse_rnn.registry import ConfigError, near
    from sparse_rnn.run_folder import RunFolder, runs_root

    if not name:
        raise ConfigError("Which run? Give run=<id or folder>, as in run=rhn-ptb-selfish-s1-0a1b2c3d.")
    for path in (Path(name), runs_root() / name):
        if (path / "record.json").is_file():
            return RunFolder(path)
    known = [path.parent.name for path in runs_root().glob("*/record.json")]
    raise ConfigError(f"run={name} does not exist in {runs_root()}{near(Path(name).name, known)}.")


if __name__ == "__main__":
    main()

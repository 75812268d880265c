"""Evaluate a trained run: python -m sparse_rnn.evaluate run=ID split=test."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

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
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.wording import counted
from sparse_rnn.inference.find_model import find_model

if TYPE_CHECKING:
    from sparse_rnn.inference.own_file import OwnFile

DEFAULTS = {
    "run": "",
    "split": "test",
    "weights": "best",
    "batch": "",
    "device": "auto",
    "threads": "",
    "data": "",
    "file": "",
}
SPLITS = ("train", "valid", "test")
HELP = """\
Loss and perplexity (or accuracy) of a trained run on a split of its data, or on a file of yours.

  python -m sparse_rnn.evaluate run=ID [split=test] [weights=best] [batch=N] [device=auto] [threads=N]
  python -m sparse_rnn.evaluate run=ID data=TEXT [weights=best] ...
  python -m sparse_rnn.evaluate file=FILE [data=TEXT] [split=test] ...

ID         the id of a run, the beginning of it, or its folder; or last: the run that was trained last; or example: a
           small model that comes with sparse_rnn
FILE       a file that `export` wrote as csr, coo, packed or dense; a folder of format=hub; or OWNER/NAME of a model
           hub. Its run need not be here, nor its data if there is data=TEXT. On the CPU the sparse kernels compute
           where they are faster
split      train, valid or test
data       a text with one sentence per line, its words as the run's data write them; for a classifier, labelled texts
           as for dataset=labelled_text, each with the name of a class. Words that are not in the run's vocabulary are
           read as <unk> (a classifier leaves them out), and the line says how many these are
weights    best: those of the best validation, as they were evaluated then;
           averaged, raw: those of the last checkpoint (of an unfinished run, or one with checkpoint.keep=last)
batch      sequences side by side; as in training if not given, or fewer for a short file
Examples:
  python -m sparse_rnn.evaluate run=runs/rhn-ptb-selfish-s1-0a1b2c3d split=valid
  python -m sparse_rnn.evaluate run=runs/rhn-ptb-selfish-s1-0a1b2c3d data=letters.txt
  python -m sparse_rnn.evaluate file=model.safetensors data=letters.txt
"""


def main() -> None:
    """Entry point."""
    start(lambda: say(evaluate(**parse_keys(sys.argv[1:], DEFAULTS))), lambda: HELP)


def evaluate(
    run: str, split: str, weights: str, batch: str, device: str, threads: str, data: str = "", file: str = ""
) -> str:
    """A line with the loss and the metric; arguments as on the command line. Raises ConfigError."""
    one_of("split", split, SPLITS)
    if data and split != DEFAULTS["split"]:
        raise ConfigError(f"split={split} means nothing with data={data}: leave one of them out.")
    check_weights(weights)
    check_device(device)
    sequences, number = optional_number("batch", batch), optional_threads(threads)
    source = find_model(run, file)
    if isinstance(source, Path):
        if weights != DEFAULTS["weights"]:
            given = f"file={file}" if file else f"run={run}"
            raise ConfigError(f"weights={weights} means nothing with {given}, which holds one model.")
        from sparse_rnn.inference.evaluate import evaluate_exported

        result, origin, own = evaluate_exported(source, split, data, batch=sequences, device=device, threads=number)
        return _line(file or run, data or split, result, origin, own)
    from sparse_rnn.inference.evaluate import evaluate_file, evaluate_folder

    if not data:
        result, origin = evaluate_folder(source, split, weights, batch=sequences, device=device, threads=number)
        return _line(source.path.name, split, result, f"{origin} weights")
    result, origin, own = evaluate_file(source, data, weights, batch=sequences, device=device, threads=number)
    return _line(source.path.name, data, result, f"{origin} weights", own)


def _line(model: str, data: str, result: Mapping[str, float], origin: str, own: "OwnFile | None" = None) -> str:
    facts = "  ".join(f"{key} {value:.4f}" for key, value in result.items())
    unknown = "" if own is None or own.unknown is None else f"  {own.unknown:,} of {counted(own.words, 'word')} unknown"
    return f"{model}  {data}  {facts}  ({origin}){unknown}"


if __name__ == "__main__":
    main()

"""Fetch data sets ahead: python -m sparse_rnn.data ptb."""

import sys
from collections.abc import Sequence

HELP = """\
Fetch data sets ahead of training, check them, and say what is there.

  python -m sparse_rnn.data [NAME ...]

Without names, all that are downloaded: ptb. Files go to $SPARSE_RNN_DATA (data); those already there are used.
"""


def main() -> None:
    """Entry point."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(HELP, end="")
        return
    from sparse_rnn import command_line

    command_line.guard(lambda: fetch(sys.argv[1:]))


def fetch(names: Sequence[str]) -> None:
    """Fetch the data sets of these names (none: all that are downloaded) and print what they hold."""
    from sparse_rnn.data import datasets  # noqa: F401  (fills the registry)
    from sparse_rnn.registry import ConfigError, choices, lookup, near

    known = [name for name in choices("dataset") if hasattr(lookup("dataset", name), "fetch")]
    for name in names:
        if name not in known:
            raise ConfigError(f"{name} is not a data set to download{near(name, known)}.")
    for name in names or known:
        dataset = lookup("dataset", name)()
        paths, corpus = dataset.fetch().values(), dataset.load()
        tokens = " / ".join(f"{split.numel():,}" for split in corpus.splits.values())
        print(f"{name}: {tokens} tokens, {len(corpus.vocabulary):,} words", *paths, sep="\n  ")


if __name__ == "__main__":
    main()

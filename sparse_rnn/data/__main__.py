"""Fetch data sets ahead: python -m sparse_rnn.data ptb imdb."""

import sys
from collections.abc import Sequence
from typing import Any

HELP = """\
Fetch data sets ahead of training, check them, and say what is there.

  python -m sparse_rnn.data [NAME ...]

Without names, all that are downloaded: ag_news, imdb, ptb, wikitext2, yelp_polarity.
Of the others (sanders_twitter, yelp2018, amazon_fine_food) it says where to get them and where to put them.
Files go to $SPARSE_RNN_DATA (data); those already there are used.
"""
OWN = ("text", "labelled_text")


def main() -> None:
    """Entry point."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(HELP, end="")
        return
    from sparse_rnn.core import command_line

    command_line.guard(lambda: fetch(sys.argv[1:]))


def fetch(names: Sequence[str]) -> None:
    """Fetch the data sets of these names (none: all that are downloaded) and print what they hold."""
    from sparse_rnn.core.errors import ConfigError, suggest
    from sparse_rnn.core.registry import choices, lookup
    from sparse_rnn.data.labelled import published  # noqa: F401  (fill the registry)
    from sparse_rnn.data.language import corpora  # noqa: F401  (fill the registry)

    named = [name for name in choices("dataset") if name not in OWN]
    for name in names:
        if name not in named:
            raise ConfigError(f"{name} is not a data set that is published{suggest(name, named)}.")
    for name in names or [name for name in named if hasattr(lookup("dataset", name), "fetch")]:
        dataset = lookup("dataset", name)()
        files = dataset.fetch().values() if hasattr(dataset, "fetch") else []
        print(f"{name}: {describe(dataset)}", *files, sep="\n  ")


def describe(dataset: Any) -> str:
    """What a data set holds, in one line."""
    from sparse_rnn.data.labelled.texts import LabelledTexts

    data = dataset.load()
    counts = " / ".join(f"{count:,}" for count in data.counts.values())
    if isinstance(data, LabelledTexts):
        return f"{counts} {data.unit} of {len(data.classes)} classes, {data.words:,} words"
    return f"{counts} {data.unit}, {data.sizes[0]:,} words"


if __name__ == "__main__":
    main()

"""Fetch data sets ahead of training: python -m sparse_rnn.data ptb imdb."""

import sys
from collections.abc import Sequence

from sparse_rnn.core.command_line import start

HELP = """\
Fetch data sets ahead of training, check them, and print what they hold.

  python -m sparse_rnn.data [NAME ...]

Without names, all that are downloaded: ag_news, enwik8, imdb, ptb, ptb_char, sequential_mnist,
text8, wikitext103, wikitext2, yelp_polarity.
For the others (sanders_twitter, yelp2018, amazon_fine_food) it says where to get them and where to put them.
Files go to $SPARSE_RNN_DATA (data); files that are already there are used.
"""


def main() -> None:
    """Entry point."""
    start(lambda: fetch_all(sys.argv[1:]), lambda: HELP)


def fetch_all(names: Sequence[str]) -> None:
    """Fetch the data sets of these names (none: all that are downloaded) and print what they hold."""
    from sparse_rnn.data.fetch import fetch, select

    for name in select(list(names)):
        described, files = fetch(name)
        print(f"{name}: {described}", *files, sep="\n  ")


if __name__ == "__main__":
    main()

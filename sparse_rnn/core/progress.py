"""A bar with the time that is left, on stderr, for work that takes long; nothing where stderr is no terminal."""

import sys
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")


@contextmanager
def bar(words: str, total: float | None = None) -> Iterator[Callable[[float], None]]:
    """A bar for this work, while it is done; it goes when that is over. What it gives adds to what is done.

    total: in any unit; None where nobody knows, which leaves out the time.
    """
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console  # only a terminal waits for it
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description}"), BarColumn(bar_width=10), TaskProgressColumn(), TimeRemainingColumn()
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(words, total=total)
        yield lambda done: progress.advance(task, done)


def tracked(items: Collection[T], words: str) -> Iterator[T]:
    """The items one by one, with a bar."""
    with bar(words, len(items)) as advance:
        for item in items:
            yield item
            advance(1)

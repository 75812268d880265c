"""Numbers, the words that follow them, and texts, as people read them on a terminal."""

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from sparse_rnn.core.metrics import metric_of

DAYS_WORTH_NAMING = 1.0


def duration(seconds: float) -> str:
    """A time span in the two largest units that matter."""
    minutes = round(seconds / 60)
    if minutes < 1:
        return f"{max(seconds, 1):.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes / 1440:.1f} days"


def counted(number: int, noun: str) -> str:
    """A number and what it counts, as in "1 thread" and "2,000 threads"; see `plural`."""
    return f"{number:,} {plural(noun, number)}"


def plural(noun: str, number: int) -> str:
    """What so many are called; `noun` is a word for one whose plural only adds an s."""
    return noun if number == 1 else f"{noun}s"


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers as ranges, such as 1-3, 7."""
    ordered = sorted(set(numbers))
    runs = [[number for _, number in group] for _, group in groupby(enumerate(ordered), lambda pair: pair[1] - pair[0])]
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def megabytes(number: int) -> str:
    """A size in bytes as people read it, as in 0.508 MB and 87.3 MB."""
    return f"{number / 1e6:.3f} MB" if number < 10_000_000 else f"{number / 1e6:,.1f} MB"


def scientific(number: float | None) -> str:
    """A large number with three digits, as in 3.12e16; "unknown" for None."""
    return "unknown" if number is None else f"{number:.2e}".replace("e+0", "e").replace("e+", "e")


def shown_metric(row: Mapping[str, Any], split: str) -> str:
    """What the run is judged by, of a split, in a row of metrics or results: see core/metrics.py."""
    metric = metric_of(row, f"{split}/")
    return metric.shown(row[f"{split}/{metric.name}"])


def one_line(text: str) -> str:
    """A text as one line that a terminal shows as it is, wherever it comes from: the one place where that is done.

    A line break, an escape sequence or anything else that cannot be seen is written as in Python, for example \\x1b.
    """
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode("ascii") for each in text)


def lines_of(text: str) -> str:
    """A text of several lines, each by `one_line`; tabs stay."""
    return "".join("\t".join(map(one_line, line.split("\t"))) + "\n" for line in text.splitlines())

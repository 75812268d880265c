"""The page's list of all runs: the choices, results and log of each.

Its column `differs` has the settings in which the listed runs differ, but for those that have columns of their own.
"""

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeGuard
from urllib.parse import quote

from sparse_rnn.config.differing import differing

from ..sources.logs import LoggedRun, Logs
from ..tables.layout import number

IDENTITY = ("model", "dataset", "sparsifier", "growth", "optimizer", "seed", "budget", "protocol", "state")
HEADINGS = ("run", "differs", *IDENTITY, "valid", "test", "active parameters", "sparsity", "commit", "finished (UTC)")
WEB = ("http://", "https://")


@dataclass(frozen=True)
class Item:
    """A field of a line. key: what it is sorted by; empty if there is nothing to show, which is sorted last."""

    text: str = ""
    key: str = ""
    is_number: bool = False


@dataclass(frozen=True)
class Line:
    """A run. address: where its log is. items: its fields in the order of HEADINGS[1:]."""

    run_id: str
    address: str
    state: str
    items: tuple[Item, ...]


def lines(logs: Logs, folder: Path) -> list[Line]:
    """One line per run, for a page that will lie in `folder`: addresses of local logs are relative to it."""
    runs = list(logs.runs.values())
    differs = differing([run.config for run in runs], without=IDENTITY)
    return [
        Line(run.run_id, address(run.link, folder), run.state, (Item(words, words), *_items(run, facts)))
        for run, words, facts in zip(runs, differs, logs.frame.to_dict("records"), strict=True)
    ]


def address(link: str, folder: Path) -> str:
    """The address of a log: a web address as it is, a path relative to the folder."""
    return link if link.startswith(WEB) else quote(Path(os.path.relpath(link, folder)).as_posix())


def _items(run: LoggedRun, facts: dict[Any, Any]) -> Iterator[Item]:
    for name in IDENTITY:
        yield Item(str(facts[name]), str(facts[name]), is_number=name == "seed")
    for split in ("valid", "test"):
        yield _number(split, facts.get(f"{split}/{run.metric}"), metric=run.metric)
    yield _number("parameters", facts.get("active_parameters"))
    yield _number("sparsity", (run.final or {}).get("best/sparsity/model"))
    commit = f"{facts['commit'][:7]}{'+' if facts['modified'] else ''}" if facts["commit"] else ""
    yield Item(commit, commit)
    yield _date(facts.get("clock/finished"))


def _number(column: str, value: float | None, *, metric: str = "") -> Item:
    """A number as tables print it."""
    if not _known(value):
        return Item(is_number=True)
    return Item(number(column, value, metric=metric), repr(float(value)).replace("inf", "Infinity"), is_number=True)


def _date(seconds: float | None) -> Item:
    return Item(f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M}", str(seconds)) if _known(seconds) else Item()


def _known(value: float | None) -> TypeGuard[float]:
    return value is not None and not math.isnan(value)

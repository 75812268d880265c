"""What the logs hold of runs: one schema, whichever way they were read.

A run is its configuration and its rows. The last row of a finished run says what it kept (`best/...`): all that a table
prints is in it. Rows of an epoch hold what the figures draw.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from sparse_rnn.runs.folder import SCHEMA

Row = Mapping[str, Any]
STATES = ("finished", "failed", "unfinished")
PLACE = ("step", "epoch")
BEST = "best/"
FINAL = "best/valid/loss"
INFINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
AVERAGING = ("nt_asgd", "snt_asgd")

NO_AVERAGING, FORCED, NOT_AVERAGED = "no averaging", "averaging forced", "not averaged"

DESCRIBED = ("model", "dataset", "sparsifier", "growth", "optimizer", "recipe", "protocol", "budget")


@dataclass(frozen=True)
class LoggedRun:
    """One run as the logs have it.

    config: as `as_dict(run)` gives it. provenance: schema, data, sizes, threads, commit, host. state: one of STATES; a
    run without a last row that did not fail is `unfinished`, whether somebody works on it or not. final: the last row
    if it is finished. link: where the log is, a folder or a web address. read: all its rows in order.
    """

    run_id: str
    config: Mapping[str, Any]
    provenance: Mapping[str, Any]
    state: str
    final: Row | None
    link: str
    read: Callable[[], list[Row]] = field(repr=False, compare=False)

    @cached_property
    def history(self) -> pd.DataFrame:
        """A line for every row: `step`, `epoch`, then all keys in alphabetical order, NaN where a row has none."""
        frame = pd.DataFrame(self.read())
        first = [name for name in PLACE if name in frame]
        return frame[[*first, *sorted(map(str, frame.columns.difference(first)))]]

    @property
    def averaging(self) -> tuple[str, ...]:
        """What is not as it should be with the averages of a finished run whose optimizer keeps them."""
        final = self.final or {}
        if not final or self.config["optimizer"]["name"] not in AVERAGING:
            return ()
        if "averaging/trigger_epoch" not in final:
            return (NO_AVERAGING,)
        found = {FORCED: bool(final["averaging/forced"]), NOT_AVERAGED: not final["best/averaged"]}
        return tuple(words for words, holds in found.items() if holds)

    @property
    def metric(self) -> str:
        """What its results are: `accuracy`, a share, or `perplexity`."""
        return "accuracy" if f"{BEST}test/accuracy" in (self.final or {}) else "perplexity"

    @property
    def facts(self) -> dict[str, Any]:
        """The run as a row of the frame: what it is, where it was made, and what it kept, without the prefix."""
        parts = {name: self.config[name]["name"] for name in DESCRIBED}
        environment = self.provenance["environment"]
        final = sorted((self.final or {}).items())  # W&B's server gives them in any order
        kept = {name.removeprefix(BEST): value for name, value in final if name not in PLACE}
        return {
            "run_id": self.run_id,
            **parts,
            "seed": self.config["seed"],
            "state": self.state,
            "commit": environment["commit"],
            "modified": environment["modified"],
            "device": self.provenance["device"],
            "host": environment["host"],
            "link": self.link,
            **{name: value for name, value in kept.items() if not name.startswith("sparsity/")},
        }


@dataclass(frozen=True)
class Logs:
    """Runs by their id, and a sentence for everything that looked like a log and was passed over."""

    source: str
    runs: Mapping[str, LoggedRun]
    problems: tuple[str, ...] = ()

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row a run: see LoggedRun.facts."""
        return pd.DataFrame([run.facts for run in self.runs.values()])


def logged_run(
    run_id: str,
    config: Mapping[str, Any],
    last: Row | None,
    *,
    failed: bool,
    link: str,
    read: Callable[[], list[Row]],
) -> LoggedRun:
    """A run from what one of the sources holds of it; `config` as logged to W&B, its provenance under `record`.

    Raises ValueError, as `check` does.
    """
    check(config)
    final = last if last is not None and FINAL in last else None
    state = "finished" if final is not None else "failed" if failed else "unfinished"
    own = {name: value for name, value in config.items() if name != "record" and not name.startswith("_")}
    return LoggedRun(run_id, own, config["record"], state, final, link, read)


def check(config: Mapping[str, Any]) -> None:
    """Raise ValueError, with the reason, unless a configuration as logged is one of this schema."""
    provenance = config.get("record")
    if not isinstance(provenance, Mapping) or not all(isinstance(config.get(name), Mapping) for name in DESCRIBED):
        raise ValueError("it is not a run of sparse_rnn, or one from before W&B held its provenance")
    if provenance.get("schema") != SCHEMA:
        raise ValueError(f"its logs have schema {provenance.get('schema')}, not {SCHEMA}: train it anew")


def joined(segments: Iterable[Iterable[Row]]) -> list[Row]:
    """The rows of a run's segments, in the order in which they were begun, as one: see `merged` and `plain`."""
    return [plain(row) for row in merged(segments)]


def merged(segments: Iterable[Iterable[Row]]) -> list[Row]:
    """The rows of a run's segments as they were logged; of rows for the same place in the run the later segment's."""
    rows = {place(row): row for segment in segments for row in segment if "step" in row}
    return [rows[key] for key in sorted(rows)]


def place(row: Row) -> tuple[int, int]:
    """Where a row stands in a run: steps, then the epoch they end, then what the run kept."""
    return int(row["step"]), 2 if FINAL in row else 1 if "valid/loss" in row else 0


def plain(row: Row) -> Row:
    """A row without W&B's own columns; its words for NaN and infinity are numbers again."""
    return {
        name: INFINITE.get(value, value) if isinstance(value, str) else value
        for name, value in row.items()
        if not name.startswith("_")
    }

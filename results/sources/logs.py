"""What the logs hold of runs: one schema, whatever source they were read from.

A run is its configuration and its rows. The last row of a finished run describes the weights that it kept
(`best/...`): it holds all that a table prints. The rows of the epochs hold what the figures draw.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import pandas as pd

from sparse_rnn.config.differing import differing
from sparse_rnn.config.stored import check_config
from sparse_rnn.core.errors import ConfigError, DamagedFile
from sparse_rnn.core.metrics import metric_of
from sparse_rnn.core.shapes import is_finite, is_number, misfit
from sparse_rnn.data.labels import dataset_name
from sparse_rnn.runs.folder import PROVENANCE, SCHEMA, RunFolder

Row = Mapping[str, Any]
STATES = ("finished", "failed", "unfinished")
PLACE = ("step", "epoch")
BEST = "best/"
FINAL = "best/valid/loss"
FINISHED = "clock/finished"
END_OF_TIME = 253_402_300_800  # the year 10,000, which dates do not reach
NUMBERS = (BEST, "averaging/", "clock/")  # of a last row
INFINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
AVERAGING = ("nt_asgd", "snt_asgd")

NO_AVERAGING, FORCED, NOT_AVERAGED = "no averaging", "averaging forced", "not averaged"

DESCRIBED = ("model", "dataset", "sparsifier", "growth", "optimizer", "recipe", "protocol", "budget")


class Environment(TypedDict):
    """Where a run was trained, as far as tables and pages say it; there may be more keys."""

    host: str
    commit: str | None
    modified: bool | None
    device_name: NotRequired[str]


class Provenance(TypedDict):
    """What logs hold of a run besides its configuration and rows; there may be more keys."""

    environment: Environment
    device: NotRequired[str]


class Unreachable(ConfigError):
    """A server of logs does not answer."""


@dataclass(frozen=True)
class LoggedRun:
    """One run as the logs have it.

    config: as `as_dict(run)` gives it. provenance: schema, data, sizes, threads, commit, host. state: one of STATES;
    `unfinished` includes runs that are still being trained. final: the last row if the run is finished, else None.
    link: where the log is, a folder or a web address. read: returns all its rows in order.
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
        """One line per row: `step`, `epoch`, then all keys in alphabetical order, NaN where a row has none."""
        frame = pd.DataFrame(self.read())
        first = [name for name in PLACE if name in frame]
        return frame[[*first, *sorted(map(str, frame.columns.difference(first)))]]

    @property
    def averaging(self) -> tuple[str, ...]:
        """What is unusual about the averaged weights of a finished run: NO_AVERAGING, or FORCED and NOT_AVERAGED.

        Empty if nothing is, and for optimizers that do not average.
        """
        final = self.final or {}
        if not final or self.config["optimizer"]["name"] not in AVERAGING:
            return ()
        if "averaging/trigger_epoch" not in final:
            return (NO_AVERAGING,)
        found = {FORCED: bool(final["averaging/forced"]), NOT_AVERAGED: not final["best/averaged"]}
        return tuple(words for words, holds in found.items() if holds)

    @property
    def metric(self) -> str:
        """What the run is judged by, by its name in core/metrics.py: `accuracy`, as a share in [0, 1], for example."""
        return metric_of(self.final or {}, f"{BEST}test/").name

    @property
    def facts(self) -> dict[str, Any]:
        """The run as a row of `Logs.frame`: its choices, its origin, and its final results without their prefix."""
        parts = {name: self.config[name]["name"] for name in DESCRIBED}
        parts["dataset"] = dataset_name(self.config["dataset"])
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
            "device": self.provenance.get("device"),
            "host": environment["host"],
            "link": self.link,
            **{name: value for name, value in kept.items() if not name.startswith("sparsity/")},
        }


@dataclass(frozen=True)
class Logs:
    """Runs by their id. problems: a sentence for every file that looked like a log and was skipped or damaged."""

    source: str
    runs: Mapping[str, LoggedRun]
    problems: tuple[str, ...] = ()

    @cached_property
    def frame(self) -> pd.DataFrame:
        """One row per run: see LoggedRun.facts. `differs` is what sets it apart from the others, seeds apart."""
        frame = pd.DataFrame([run.facts for run in self.runs.values()])
        if len(frame):
            frame.insert(1, "differs", differing([run.config for run in self.runs.values()]))
        return frame


def logged_config(record: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration as it is logged to W&B, with the provenance under `record`, from the record of a run."""
    return {**record["config"], "record": {name: record[name] for name in PROVENANCE if name in record}}


def logged_run(
    run_id: str,
    config: Mapping[str, Any],
    last: Row | None,
    *,
    failed: bool,
    link: str,
    read: Callable[[], list[Row]],
) -> LoggedRun:
    """A run from what a source holds of it.

    config: as logged to W&B, with the provenance under `record`. last: the last row, None if there is none. Raises
    ValueError if the configuration is not one of this schema, see `check`, or the last row is damaged. A row that is
    damaged otherwise, which is found only when all are read, is a ConfigError.
    """
    check(config)
    final = last if last is not None and FINAL in last else None
    for name, value in (final or {}).items():
        if name.startswith(NUMBERS) and not is_number(value):
            raise ValueError(f"its last row is damaged: {name} is no number")
    if final and not 0 <= final.get(FINISHED, 0) < END_OF_TIME:
        raise ValueError(f"its last row is damaged: {FINISHED} is no time")
    state = "finished" if final is not None else "failed" if failed else "unfinished"
    own = {name: value for name, value in config.items() if name != "record" and not name.startswith("_")}
    return LoggedRun(run_id, own, config["record"], state, final, link, partial(_all_rows, read, link))


def _all_rows(read: Callable[[], list[Row]], link: str) -> list[Row]:
    """What `read` returns; raises ConfigError if the log has been damaged, or gone, since the run was found."""
    try:
        return read()
    except (ValueError, OSError, RecursionError, DamagedFile) as error:
        raise ConfigError(f"The log in {link} cannot be read: {error}.") from None


def check(config: Mapping[str, Any]) -> None:
    """Raise ValueError with the reason unless a logged configuration is one of this schema."""
    provenance = config.get("record")
    if not isinstance(provenance, Mapping) or not all(isinstance(config.get(name), Mapping) for name in DESCRIBED):
        raise ValueError("it is not a run of sparse_rnn, or was logged before logs held the provenance")
    if provenance.get("schema") != SCHEMA:
        raise ValueError(f"its logs have schema {provenance.get('schema')!r}, not {SCHEMA}: train it anew")
    check_config(config)
    if wrong := misfit(provenance, Provenance, "record"):
        raise ValueError(f"what it says of its origin is damaged ({wrong})")


def refuse_renamed(folder: RunFolder, run_id: str) -> None:
    """Raise ValueError if a run's folder has been renamed: that is how a user sets a run aside to train it anew."""
    if folder.record.exists() and folder.path.resolve().name != run_id:
        raise ValueError(f"its folder is not called {run_id}")


def skipped(path: Path, reason: Exception) -> str:
    """The sentence for a file that is not used."""
    words = str(reason) if isinstance(reason, ValueError) else f"it cannot be read ({_why(reason)})"
    return f"{path} is skipped: {words.rstrip('.')}."


def _why(reason: Exception) -> str:
    return getattr(reason, "strerror", None) or str(reason)


def joined(segments: Iterable[Iterable[Row]]) -> list[Row]:
    """A run's rows from its segments, given in the order in which they began: see `merged` and `plain`."""
    return [plain(row) for row in merged(segments)]


def merged(segments: Iterable[Iterable[Row]]) -> list[Row]:
    """The rows of a run's segments as they were logged, in the order of training.

    A run that was killed repeats some steps when it resumes: of two rows for the same place the later segment's wins.
    """
    rows = {place(row): row for segment in segments for row in segment if "step" in row}
    return [rows[key] for key in sorted(rows)]


def place(row: Row) -> tuple[int, int]:
    """Where a row stands in a run: its step; at the same step first the training loss, then epoch, then final row.

    Raises ValueError if its step or epoch is no number.
    """
    for name in PLACE:
        if not is_finite(row.get(name, 0)):
            raise ValueError(f"a row is damaged: its {name} is no number")
    return int(row["step"]), 2 if FINAL in row else 1 if "valid/loss" in row else 0


def plain(row: Row) -> Row:
    """A row without W&B's own columns, and with numbers where W&B has the words NaN and Infinity."""
    return {
        name: INFINITE.get(value, value) if isinstance(value, str) else value
        for name, value in row.items()
        if not name.startswith("_")
    }

"""What was measured, as a file that is complete after every row and as a table."""

import faulthandler
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

LATEST = Path(__file__).parent.parent.parent / "results" / "bench" / "gpu.json"
STORED = ("machine", "seconds", "rows", "errors", "attempted", "unfinished")
PATIENCE = 75.0  # seconds for one attempt: it builds a network, compiles kernels and measures for a second
GPU_UNUSABLE = 3  # the exit code of a process whose GPU answers every call with an error
SHOWN = 12  # failed tests in the table


@dataclass
class Report:
    """Rows of all sections, and what went wrong in which one. Several processes write it, one after the other.

    deadline: when all must be done, in seconds of time.monotonic. bars: whether rows are held against theirs.
    attempted: what was begun so far, by section; unfinished: what a process was at when it ended.
    """

    path: Path
    deadline: float
    bars: bool = True
    machine: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
    attempted: list[str] = field(default_factory=list)
    unfinished: str = ""
    _section: str = ""

    def left(self) -> float:
        """Seconds until the deadline."""
        return self.deadline - time.monotonic()

    def row(
        self, what: str, *, ms: float | None = None, ratio: float | None = None, bar: float | None = None, **facts: Any
    ) -> None:
        """Add and print a row. bar: the most that its `ms` or, if it has none, its `ratio` may be."""
        value, bar = ratio if ms is None else ms, bar if self.bars else None
        numbers = {"ms": _rounded(ms), "ratio": _rounded(ratio), "bar": bar}
        holds = None if bar is None or value is None else value <= bar
        self.rows.append({"section": self._section, "what": what, **numbers, "holds": holds, **facts})
        print(line(self.rows[-1]), flush=True)
        self.write()

    def ms(self, what: str) -> float | None:
        """The milliseconds of a row of this section; None if there is no such row."""
        found = (row["ms"] for row in self.rows if (row["section"], row["what"]) == (self._section, what))
        return next(found, None)

    def attempt(self, what: str, action: Callable[[], None], least: float = 0.0) -> None:
        """Do what no process has begun yet. A failure is noted and the rest goes on; a GPU that hangs ends the process.

        least: the seconds that must be left for it.
        """
        name = f"{self._section}: {what}"
        if name in self.attempted:
            return
        self.attempted.append(name)
        if self.left() < least:
            self.row(f"no time left for {what}")
            return
        self.unfinished = what
        self.write()
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        try:
            action()
        except Exception as error:
            self.failed(what, f"{type(error).__name__}: {error}")
            _leave_if_unusable(self)
        finally:
            faulthandler.cancel_dump_traceback_later()
        self.unfinished = ""
        self.write()

    def failed(self, what: str, error: str, section: str | None = None) -> None:
        """Note and print an error, of this section if no other is named; nothing is under way any more."""
        self.errors.append({"section": section or self._section, "what": what, "error": error[:600]})
        self.unfinished = ""
        print(f"{what}: {error[:600]}", flush=True)
        self.write()

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Rows and errors belong to `name`."""
        self._section, started = name, time.monotonic()
        print(f"-- {name}, {self.left():.0f} seconds left", flush=True)
        try:
            yield
        except Exception as error:
            self.failed(name, f"{type(error).__name__}: {error}")
        self.seconds[name] = round(self.seconds.get(name, 0.0) + time.monotonic() - started, 1)
        self.write()

    def write(self) -> None:
        """Write the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".tmp")
        draft.write_text(json.dumps({name: getattr(self, name) for name in STORED}, indent=1) + "\n")
        draft.replace(self.path)

    def read(self) -> None:
        """Go on from what the file holds."""
        for name, value in json.loads(self.path.read_text()).items():
            setattr(self, name, value)

    def table(self) -> str:
        """All rows that have a bar, all errors, and tests that failed."""
        lines = [line(row) for row in self.rows if row["bar"] is not None]
        lines += [f"FAILED  {each['section']}: {each['what']}: {each['error'][:120]}" for each in self.errors]
        tests = [row for row in self.rows if "failed_tests" in row]
        for row in tests:
            lines += [line(row), *(f"FAILED  {test[:200]}" for test in row["failed_tests"][:SHOWN])]
        return "\n".join(lines)


def _leave_if_unusable(report: Report) -> None:
    """End the process if the last error has left its GPU unusable, as an invalid memory access does."""
    if not torch.cuda.is_initialized():
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        report.write()
        raise SystemExit(GPU_UNUSABLE) from None


def line(row: dict[str, Any]) -> str:
    """A row as a line of text."""
    ms = "" if row["ms"] is None else f"{row['ms']:.3f} ms"
    ratio = "" if row["ratio"] is None else f"x {row['ratio']:.3f}"
    bar = "" if row["bar"] is None else f"bar {row['bar']:g}"
    verdict = {None: "", True: "holds", False: "MISSED"}[row["holds"]]
    own = ("section", "what", "ms", "ratio", "bar", "holds")
    facts = " ".join(f"{key}={value}" for key, value in row.items() if key not in own and not isinstance(value, list))
    return f"{row['what']:<58} {ms:>12} {ratio:>10} {bar:>9} {verdict:<6} {facts}".rstrip()


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)

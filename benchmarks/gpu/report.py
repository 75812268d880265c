"""What was measured, as a file that is complete after every section and as a table."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LATEST = Path(__file__).parent.parent.parent / "results" / "bench" / "gpu.json"


@dataclass
class Report:
    """Rows of all sections, and what went wrong in which one.

    deadline: when all must be done, in seconds of time.monotonic. bars: whether rows are held against theirs.
    """

    path: Path
    deadline: float
    bars: bool = True
    machine: dict[str, Any] = field(default_factory=dict)
    rows: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, str]] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)
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

    @contextmanager
    def attempt(self, what: str) -> Iterator[None]:
        """Whatever fails inside is noted, and the rest goes on."""
        try:
            yield
        except Exception as error:
            said = f"{type(error).__name__}: {error}"[:600]
            self.errors.append({"section": self._section, "what": what, "error": said})
            print(f"{what}: {said}", flush=True)

    @contextmanager
    def section(self, name: str) -> Iterator[None]:
        """Rows and errors belong to `name`; afterwards the file is written."""
        self._section, started = name, time.monotonic()
        print(f"-- {name}, {self.left():.0f} seconds left", flush=True)
        with self.attempt(name):
            yield
        self.seconds[name] = round(time.monotonic() - started, 1)
        self.write()

    def write(self) -> None:
        """Write the file."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        content = {"machine": self.machine, "seconds": self.seconds, "rows": self.rows, "errors": self.errors}
        draft = self.path.with_suffix(".tmp")
        draft.write_text(json.dumps(content, indent=1) + "\n")
        draft.replace(self.path)

    def table(self) -> str:
        """All rows that have a bar, and all errors."""
        lines = [line(row) for row in self.rows if row["bar"] is not None]
        lines += [f"FAILED  {each['section']}: {each['what']}: {each['error'][:120]}" for each in self.errors]
        return "\n".join(lines)


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

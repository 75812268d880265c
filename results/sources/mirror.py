"""A copy of an online W&B project: one file `<run_id>.jsonl` per run, first a line that describes it, then its rows."""

import json
from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from sparse_rnn.core.files import write_text

from .logs import LoggedRun, Logs, Row, joined, logged_run, skipped

VERSION = 1  # of the files: runs in files of another version are fetched again


def load(folder: Path, wanted: Collection[str] | None = None) -> Logs:
    """The runs of a copy. wanted: the only run ids of interest."""
    runs, problems = {}, []
    for path in sorted(folder.glob("*.jsonl")):
        if wanted is None or path.stem in wanted:
            try:
                runs[path.stem] = _run(path)
            except (ValueError, OSError) as reason:
                problems.append(skipped(path, reason))
    return Logs(f"mirror:{folder}", runs, tuple(problems))


def copies(folder: Path) -> dict[str, Path]:
    """The files of a folder that are such copies, by run id."""
    return {path.stem: path for path in folder.glob("*.jsonl") if _head(path)}


def stamp(folder: Path, run_id: str) -> Any:
    """The stamp that the copy of a run was written with, None if there is none."""
    return _head(_file(folder, run_id)).get("stamp")


def write(folder: Path, run_id: str, head: Mapping[str, Any], rows: Iterable[Row]) -> None:
    """Write the copy of a run; head: stamp, state, link, config, and the last row as `last`."""
    lines = chain([{"version": VERSION, **head}], rows)
    write_text(_file(folder, run_id), "".join(json.dumps(line) + "\n" for line in lines))


def _run(path: Path) -> LoggedRun:
    head = _head(path)
    if not head:
        raise ValueError("it was not made by `fetch`, or by another version of it")
    return logged_run(
        path.stem,
        head["config"],
        head["last"],
        failed=head["state"] == "failed",
        link=head["link"],
        read=lambda: _rows(path),
    )


def _rows(path: Path) -> list[Row]:
    with path.open(encoding="utf-8") as lines:
        next(lines)
        return joined([map(json.loads, lines)])


def _file(folder: Path, run_id: str) -> Path:
    return folder / f"{run_id}.jsonl"


def _head(path: Path) -> dict[str, Any]:
    """The first line of a file; empty if there is none of this version."""
    try:
        with path.open(encoding="utf-8") as lines:
            head = json.loads(next(lines, ""))
    except (FileNotFoundError, ValueError):
        return {}
    return head if isinstance(head, dict) and head.get("version") == VERSION else {}

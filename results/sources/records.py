"""Runs from their own records: the record.json and metrics.jsonl that every run writes, with W&B or without it."""

import json
from collections.abc import Collection
from pathlib import Path

from sparse_rnn.runs.folder import PROVENANCE, RunFolder, read_record

from .logs import LoggedRun, Logs, Row, joined, logged_run, refuse_renamed, skipped


def load(folder: Path, wanted: Collection[str] | None = None) -> Logs:
    """All runs in a folder of runs, or the run whose folder it is. wanted: the only run ids of interest.

    Other files and runs of another schema are skipped. A last line that a killed process left incomplete is not read.
    """
    runs, problems = {}, []
    for path in sorted([*folder.glob("record.json"), *folder.glob("*/record.json")]):
        place = RunFolder(path.parent)
        if wanted is None or place.path.resolve().name in wanted:
            try:
                run = _run(place)
                refuse_renamed(place, run.run_id)
                runs[run.run_id] = run
            except (ValueError, OSError) as reason:
                problems.append(skipped(path, reason))
    return Logs(f"records:{folder}", runs, tuple(problems))


def _run(folder: RunFolder) -> LoggedRun:
    record = read_record(folder)
    if record is None:
        raise ValueError("it is not the record of a run")
    newest = _rows(folder.metrics, last=1)
    return logged_run(
        record.get("run_id", folder.path.name),
        record["config"] | {"record": {name: record[name] for name in PROVENANCE if name in record}},
        newest[-1] if newest else None,
        failed=record["status"] == "failed",
        link=str(folder.path),
        read=lambda: _rows(folder.metrics),
    )


def _rows(metrics: Path, last: int = 0) -> list[Row]:
    """The rows of a file, or if `last` is given only so many from its end; none if there is no file."""
    content = metrics.read_bytes() if metrics.exists() else b""
    lines = content.split(b"\n")[:-1]  # what follows the last line's end is part of a line, or nothing
    return joined([map(json.loads, lines[-last:])])

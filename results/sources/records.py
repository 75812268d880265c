"""Runs from what each leaves in its folder beside W&B's log: record.json and metrics.jsonl."""

import json
from collections.abc import Collection, Iterator
from pathlib import Path

from results.sources.logs import LoggedRun, Logs, Row, joined, logged_run
from sparse_rnn.runs.folder import PROVENANCE, RunFolder, read_record


def load(folder: Path, wanted: Collection[str] | None = None) -> Logs:
    """All runs in a folder of runs, or the one whose folder it is. wanted: the only run ids of interest."""
    runs, problems = {}, []
    for path in sorted([*folder.glob("record.json"), *folder.glob("*/record.json")]):
        place = RunFolder(path.parent)
        if wanted is None or place.path.resolve().name in wanted:
            try:
                run = _run(place)
                if place.path.resolve().name != run.run_id:
                    raise ValueError(f"its folder is not called {run.run_id}")
                runs[run.run_id] = run
            except (ValueError, OSError) as reason:
                problems.append(f"{path} is passed over: {reason}.")
    return Logs(f"records:{folder}", runs, tuple(problems))


def _run(folder: RunFolder) -> LoggedRun:
    record = read_record(folder)
    if record is None:
        raise ValueError("it is not the record of a run")
    lines = _whole_lines(folder.metrics)
    ends = joined([[json.loads(lines[-1])]]) if lines else []
    return logged_run(
        record.get("run_id", folder.path.name),
        record["config"] | {"record": {name: record[name] for name in PROVENANCE if name in record}},
        ends[-1] if ends else None,
        failed=record["status"] == "failed",
        link=str(folder.path),
        read=lambda: joined([_rows(folder.metrics)]),
    )


def _rows(metrics: Path) -> Iterator[Row]:
    return map(json.loads, _whole_lines(metrics))


def _whole_lines(metrics: Path) -> list[bytes]:
    """Lines that end as lines do: a killed process may have left part of one."""
    try:
        return metrics.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []

"""Runs from their own records: the record.json and metrics.jsonl that every run writes, with W&B or without it."""

from collections.abc import Collection
from pathlib import Path

from sparse_rnn.core.errors import DamagedFile
from sparse_rnn.core.progress import tracked
from sparse_rnn.core.reading import read_bytes
from sparse_rnn.runs.folder import RunFolder, load_record, metrics_are_intact
from sparse_rnn.runs.rows import read_rows

from .logs import LoggedRun, Logs, Row, joined, logged_config, logged_run, refuse_renamed, skipped


def load(folder: Path, wanted: Collection[str] | None = None) -> Logs:
    """All runs in a folder of runs, or the run whose folder it is. wanted: the only run ids of interest.

    Other files, damaged ones and runs of another schema are skipped. A last line that a killed process left incomplete
    is not read.
    """
    runs, problems = {}, []
    for path in tracked(sorted([*folder.glob("record.json"), *folder.glob("*/record.json")]), "reading records"):
        place = RunFolder(path.parent)
        if wanted is None or place.path.resolve().name in wanted:
            try:
                run = _run(place)
                refuse_renamed(place, run.run_id)
                runs[run.run_id] = run
            except DamagedFile as reason:
                problems.append(f"{str(reason).removesuffix('.')}: its run is skipped.")
            except (ValueError, OSError) as reason:
                problems.append(skipped(path, reason))
    return Logs(f"records:{folder}", runs, tuple(problems))


def _run(folder: RunFolder) -> LoggedRun:
    """The run of a folder; raises DamagedFile, and ValueError and OSError with reasons for `skipped`."""
    record = load_record(folder)
    if record is None:
        raise ValueError("it has gone")
    rows = _rows(folder.metrics)  # all of them: a figure is not to find out halfway that one is damaged
    if "metrics_sha256" in record and not metrics_are_intact(record, read_bytes(folder.metrics)):
        raise DamagedFile(f"{folder.metrics} is damaged: its rows are not those that were written.")
    run = logged_run(
        record.get("run_id", folder.path.name),
        logged_config(record),
        rows[-1] if rows else None,
        failed=record["status"] == "failed",
        link=str(folder.path),
        read=lambda: _rows(folder.metrics),
    )
    if record["status"] == "finished" and run.final is None:
        raise DamagedFile(f"{folder.metrics} lacks the last row, though the run is finished.")
    return run


def _rows(metrics: Path) -> list[Row]:
    return joined([read_rows(metrics)])

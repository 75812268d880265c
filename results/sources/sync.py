"""Offline runs, uploaded to W&B.

`wandb sync` sends the segments of a resumed run one after the other, so that what they share arrives twice. This logs
the joined rows once more, through W&B's client, each with the time at which it was first logged.
"""

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from results.sources import offline
from results.sources.choice import offline_folder
from results.sources.logs import Row, merged, place, plain
from results.sources.mirror import connect, explained, following, history, missing
from results.sources.wandb_file import Segment, read_rows

TIME = "_timestamp"


def sync(project: str, source: str = "runs", *, unfinished: bool = False) -> None:
    """Upload the offline runs of a source to `entity/project`, under their own id, name, group and tags.

    Of a run that is there already only the rows that are not, which are those at its end: a run that has grown is
    completed, another one left alone. unfinished: also runs that are not finished. Raises ConfigError.
    """
    segments, problems = offline.find_segments(offline_folder(source))
    ready = [found for found in segments.values() if unfinished or offline.run_of(found).final is not None]
    with explained(project):
        online = _online(project)
        sent = [_complete(project, found, online.get(found[-1][1].run_id)) for found in following(ready, "uploading")]
    for problem in problems:
        print(f"warning: {problem}", file=sys.stderr)
    there, left = len(sent) - sum(sent), len(segments) - len(ready)
    print(f"{sum(sent)} runs uploaded to {project}, {there} were there, {left} not finished")


def _online(project: str) -> dict[str, Any]:
    """The runs that are there, none if there is no such project: the first upload makes it."""
    try:
        return {run.id: run for run in connect(project).runs(project)}
    except ValueError as error:
        if not missing(error):
            raise
        return {}


def _complete(project: str, segments: Sequence[tuple[Path, Segment]], online: Any) -> bool:
    """Upload what is not there; returns whether there was any."""
    there = {place(row) for row in history(online) if "step" in row} if online is not None else set()
    rows = [row for row in merged(read_rows(path) for path, _ in segments) if place(row) not in there]
    if rows or online is None:
        _upload(project, segments[-1][1], rows)
    return bool(rows) or online is None


def _upload(project: str, segment: Segment, rows: Sequence[Row]) -> None:
    import wandb

    entity, _, name = project.partition("/")
    with tempfile.TemporaryDirectory() as folder:
        run = wandb.init(
            id=segment.run_id,
            name=segment.name,
            group=segment.group,
            tags=segment.tags,
            config={key: value for key, value in segment.config.items() if not key.startswith("_")},
            entity=entity,
            project=name,
            resume="allow",
            mode="online",
            dir=folder,
            settings=wandb.Settings(console="off", silent=True, x_disable_stats=True, x_disable_meta=True),
        )
        for row in rows:
            run.log({**plain(row), TIME: row[TIME]})
        run.finish(exit_code=segment.exit_code or 0)

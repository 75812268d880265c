"""Upload of offline runs to W&B, so that each row arrives exactly once.

`wandb sync` sends the segments of a resumed run one after the other, so that the rows that they share arrive twice.
Here the joined rows are logged again through W&B's client, each with the time at which it was first logged.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import wandb

from sparse_rnn.core.command_line import warn
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.wandb_environment import own_run_only
from sparse_rnn.core.wording import counted

from ..names import MLFLOW, RECORDS, RUNS
from . import offline
from .choice import MIRROR, ONLINE, offline_folder
from .logs import Row, merged, place, plain, skipped
from .online import connect, explained, history, is_missing, with_progress
from .wandb_file import Segment, read_rows

TIME = "_timestamp"


def sync(project: str, source: str = RUNS, *, unfinished: bool = False) -> None:
    """Upload the offline runs of a source to `entity/project`, under their own id, name, group and tags.

    If a run is online already, only the rows that are missing at its end are sent. unfinished: whether to upload runs
    that are not finished, too. Raises ConfigError.
    """
    if source in (RECORDS, MLFLOW) or source.startswith((f"{RECORDS}:", f"{MLFLOW}:", MIRROR, ONLINE)):
        raise ConfigError(f"--source {source}: sync uploads W&B's offline logs, give {RUNS} or a folder of them.")
    segments, problems = offline.find_segments(offline_folder(source))
    ready = []
    for found in segments.values():
        try:
            if offline.run_of(found).final is not None or unfinished:
                ready.append(found)
        except ValueError as reason:
            problems.append(skipped(found[-1][0], reason))
    with explained(project):
        online = _online(project)
        sent = []
        for found in with_progress(ready, "uploading"):
            try:
                rows = list(merged(read_rows(path) for path, _ in found))
            except (ValueError, OSError) as reason:
                problems.append(skipped(found[-1][0], reason))
                continue
            sent.append(_complete(project, found[-1][1], rows, online.get(found[-1][1].run_id)))
    for problem in problems:
        warn(problem)
    there, left = len(sent) - sum(sent), len(segments) - len(ready)
    print(f"{counted(sum(sent), 'run')} uploaded to {project}, {there} already there, {left} not finished")


def _online(project: str) -> dict[str, Any]:
    """The project's runs by id; none if there is no such project, since the first upload creates it."""
    try:
        return {run.id: run for run in connect(project).runs(project)}
    except ValueError as error:
        if not is_missing(error):
            raise
        return {}


def _complete(project: str, newest: Segment, logged: Sequence[Row], online: Any) -> bool:
    """Upload the rows of a run that are not online yet; returns whether anything was sent. newest: its last segment."""
    there = {place(row) for row in history(online) if "step" in row} if online is not None else set()
    rows = [row for row in logged if place(row) not in there]
    if rows or online is None:
        _upload(project, newest, rows)
    return bool(rows) or online is None


def _upload(project: str, segment: Segment, rows: Sequence[Row]) -> None:
    entity, _, name = project.partition("/")
    with tempfile.TemporaryDirectory() as folder, own_run_only(Path(folder)):
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
            run.log({**plain(row), TIME: row[TIME]} if TIME in row else plain(row))
        run.finish(exit_code=segment.exit_code or 0)

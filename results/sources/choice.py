"""The sources of logs: W&B's offline logs, its server, a copy of a project, MLflow, or the runs' own records."""

import difflib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.runs.folder import runs_root
from sparse_rnn.runs.mlflow_store import store_of

from ..names import MLFLOW, RECORDS, RUNS
from . import mirror, offline, records
from .log_index import PRIVATE
from .logs import Logs, Unreachable

MIRROR, ONLINE = "mirror:", "wandb://"
KNOWN = f"{RUNS}, a folder, {RECORDS}, {RECORDS}:FOLDER, {ONLINE}entity/project, {MIRROR}FOLDER, {MLFLOW}, {MLFLOW}:URI"


def load(source: str, wanted: Collection[str] | None = None) -> Logs:
    """All runs of a source, or those of the `wanted` run ids; the files of others are not read.

    `runs`, FOLDER: W&B's offline logs below the folder of all runs, or below another. `records`, `records:FOLDER`: the
    runs' own records there. `wandb://entity/project`: fetched, then read from the copy. `mirror:FOLDER`: such a copy.
    `mlflow`, `mlflow:URI`: the store that `logger=mlflow` writes to, or another. Raises ConfigError.
    """
    if source.strip() in (MIRROR, f"{RECORDS}:", f"{MLFLOW}:", ONLINE):
        raise ConfigError(f"--source {source} is incomplete: a source is one of {KNOWN}.")
    if source.startswith(f"{RECORDS}:"):
        return records.load(_existing(source.partition(":")[2], source), wanted)
    if source.startswith(MIRROR):
        return mirror.load(_existing(source.partition(":")[2], source), wanted)
    if source.startswith(ONLINE):
        return _online(source, wanted)
    if source == MLFLOW or source.startswith(f"{MLFLOW}:"):
        from . import mlflow_runs  # whose client takes seconds to import

        return mlflow_runs.load(store_of(source.removeprefix(MLFLOW).removeprefix(":")), wanted)
    folder = runs_root() if source == RECORDS else offline_folder(source)
    logs = records.load(folder, wanted) if source == RECORDS else offline.load(folder, wanted)
    absent = () if folder.is_dir() else (f"There is no folder {folder}: set SPARSE_RNN_RUNS, or give --source.",)
    return replace(logs, source=source, problems=(*absent, *logs.problems))


def offline_folder(source: str) -> Path:
    """The folder of W&B's offline logs that a source names; raises ConfigError."""
    return runs_root() if source == RUNS else _existing(source, source)


def _online(source: str, wanted: Collection[str] | None) -> Logs:
    """A project as it is now, or as it was last fetched if W&B does not answer."""
    from . import online  # imports W&B's client, which takes a second

    project = source.removeprefix(ONLINE)
    folder, problems = runs_root() / PRIVATE / "wandb" / project, []
    try:
        online.fetch(project, folder, wanted)
    except Unreachable as error:
        if not folder.is_dir():
            raise
        problems = [f"{error} The copy in {folder} is used instead."]
    logs = mirror.load(folder, wanted)
    name = f"{source} (copy)" if problems else source
    return replace(logs, source=name, problems=(*problems, *logs.problems))


def _existing(folder: str, source: str) -> Path:
    path = Path(folder)
    if path.is_dir():
        return path
    folders = [each.name for each in path.parent.glob("*/")] if path.parent.is_dir() else []
    near = difflib.get_close_matches(path.name, [RUNS, RECORDS, MLFLOW, *folders], n=3)
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    raise ConfigError(f"There are no logs at {source}: a source is one of {KNOWN}.{hint}")

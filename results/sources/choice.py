"""Where runs are read from: W&B's offline logs, its server, a copy of that, or the records."""

import difflib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from results.names import RECORDS, RUNS
from results.sources import mirror, offline, records
from results.sources.log_index import PRIVATE
from results.sources.logs import Logs
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.runs.folder import runs_root

MIRROR, ONLINE = "mirror:", "wandb://"

KNOWN = f"{RUNS}, a folder, {RECORDS}, {RECORDS}:FOLDER, {ONLINE}entity/project, {MIRROR}FOLDER"


def load(source: str, wanted: Collection[str] | None = None) -> Logs:
    """What a source holds. wanted: the only run ids of interest, others are not read.

    `runs`: the offline logs below the folder of all runs; or another folder of them. `records`, `records:FOLDER`: what
    the runs wrote beside. `wandb://entity/project`: fetched, and read from the copy. `mirror:FOLDER`: a copy. Raises
    ConfigError.
    """
    if source == RECORDS:
        return records.load(runs_root(), wanted)
    if source.startswith(f"{RECORDS}:"):
        return records.load(_existing(source.partition(":")[2], source), wanted)
    if source in (MIRROR, f"{RECORDS}:", ONLINE):
        raise ConfigError(f"--source {source} names nothing: a source is one of {KNOWN}.")
    if source.startswith(MIRROR):
        return mirror.load(_existing(source.partition(":")[2], source), wanted)
    if source.startswith(ONLINE):
        return _online(source, wanted)
    folder = offline_folder(source)
    logs = offline.load(folder, wanted)
    absent = () if folder.is_dir() else (f"There is no folder {folder}: set SPARSE_RNN_RUNS, or give --source.",)
    return replace(logs, source=source, problems=(*absent, *logs.problems))


def offline_folder(source: str) -> Path:
    """The folder of W&B's offline logs that a source names; raises ConfigError."""
    return runs_root() if source == RUNS else _existing(source, source)


def _online(source: str, wanted: Collection[str] | None) -> Logs:
    """A project as it is now, or as it was fetched before if W&B does not answer."""
    project = source.removeprefix(ONLINE)
    folder, problems = runs_root() / PRIVATE / "wandb" / project, []
    try:
        mirror.fetch(project, folder, wanted)
    except mirror.Unreachable as error:
        if not folder.is_dir():
            raise
        problems = [f"{error} This is the copy in {folder}."]
    logs = mirror.load(folder, wanted)
    name = f"{source} (copy)" if problems else source
    return replace(logs, source=name, problems=(*problems, *logs.problems))


def _existing(folder: str, source: str) -> Path:
    path = Path(folder)
    if path.is_dir():
        return path
    words = (
        [RUNS, RECORDS, *(each.name for each in path.parent.glob("*/"))] if path.parent.is_dir() else [RUNS, RECORDS]
    )
    near = difflib.get_close_matches(path.name, words, n=3)
    hint = f" Did you mean {', '.join(near)}?" if near else ""
    raise ConfigError(f"There are no logs at {source}: a source is one of {KNOWN}.{hint}")

"""A copy of an online W&B project: one file `<run_id>.jsonl` per run, first a line that describes it, then its rows."""

import json
import os
import re
from collections.abc import Collection, Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, NotRequired, TypedDict
from urllib.parse import unquote, urlsplit

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.files import write_text
from sparse_rnn.core.progress import tracked
from sparse_rnn.core.reading import LARGEST_JSON, open_plain, parse_json, read_bytes
from sparse_rnn.core.shapes import misfit

from .logs import LoggedRun, Logs, Row, joined, logged_run, skipped

VERSION = 1  # of the files: runs in files of another version are fetched again


class Head(TypedDict):
    """The shape of the first line. project: entity/project; early copies have it only in their link."""

    version: int
    project: NotRequired[str]
    stamp: Any
    state: str
    link: str
    config: dict[str, Any]
    last: dict[str, Any] | None


def load(folder: Path, wanted: Collection[str] | None = None) -> Logs:
    """The runs of a copy. wanted: the only run ids of interest."""
    runs, problems = {}, []
    for path in tracked(sorted(folder.glob("*.jsonl")), "reading logs"):
        if wanted is None or path.stem in wanted:
            try:
                runs[path.stem] = _run(path)
            except (ValueError, OSError) as reason:
                problems.append(skipped(path, reason))
    return Logs(f"mirror:{folder}", runs, tuple(problems))


def is_file_name(run_id: str) -> bool:
    """Whether a run id from a server can be the name of a file: it leads to no other folder and hides no file."""
    return re.fullmatch(r"\w[\w.-]{0,199}", run_id, re.ASCII) is not None


def copies(folder: Path) -> dict[str, Path]:
    """The files of a folder that are such copies, by run id."""
    return {path.stem: path for path in folder.glob("*.jsonl") if _head(path)}


def check_project(folder: Path, project: str) -> None:
    """Raise ConfigError if a folder holds the copy of another project, of which a copy of this one would delete all."""
    for path in copies(folder).values():
        if (other := _project(_head(path))) != project:
            raise ConfigError(f"{folder} holds the copy of {other}, not of {project}: give another folder with --out.")


def _project(head: Mapping[str, Any]) -> str:
    """The project of a copy, as entity/project."""
    if "project" in head:
        return str(head["project"])
    return "/".join(unquote(part) for part in urlsplit(head["link"]).path.split("/")[1:3])


def is_usable(folder: Path, run_id: str) -> bool:
    """Whether the copy of a run can be written: nothing but a file is in its place."""
    path = _file(folder, run_id)
    return not os.path.lexists(path) or path.is_file()


def stamp(folder: Path, run_id: str) -> Any:
    """The stamp that the copy of a run was written with, None if there is none."""
    return _head(_file(folder, run_id)).get("stamp")


def write(folder: Path, run_id: str, head: Mapping[str, Any], rows: Iterable[Row]) -> None:
    """Write the copy of a run; head: see `Head`."""
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
    rows = [parse_json(line) for line in read_bytes(path).splitlines()[1:]]
    if not all(isinstance(row, dict) for row in rows):
        raise ValueError("a row in it is damaged")
    return joined([rows])


def _file(folder: Path, run_id: str) -> Path:
    return folder / f"{run_id}.jsonl"


def _head(path: Path) -> dict[str, Any]:
    """The first line of a file; empty if there is none of this version."""
    try:
        with open_plain(path) as lines:
            head = parse_json(lines.readline(LARGEST_JSON))
    except (OSError, ValueError):
        return {}
    return dict(head) if not misfit(head, Head) and head["version"] == VERSION else {}

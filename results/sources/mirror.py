"""An online W&B project, copied to a folder: a file a run, `<run_id>.jsonl`, first what it is, then its rows."""

import json
import os
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
from rich.console import Console
from rich.progress import track

from results.sources.logs import LoggedRun, Logs, Row, joined, logged_run
from sparse_rnn.core.errors import ConfigError

VERSION = 1  # of the files: of another one the runs are fetched anew
PROJECT = re.compile(r"[^/\s]+/[^/\s]+")
SECONDS = 10.0


class Unreachable(ConfigError):
    """W&B's server does not answer."""


def fetch(project: str, folder: Path, wanted: Collection[str] | None = None) -> None:
    """Make a folder the copy of a project `entity/project`, with every row of its runs, not W&B's sample of 500.

    What has not changed since is not fetched again; a run that is gone online goes here as well. wanted: the only run
    ids to fetch. Raises ConfigError if nobody is logged in or there is no such project, Unreachable if W&B does not
    answer.
    """
    with explained(project):
        online = {run.id: run for run in connect(project).runs(project)}
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob("*.jsonl"):
            if path.stem not in online and _head(path):
                path.unlink()
        asked = [run for run_id, run in online.items() if wanted is None or run_id in wanted]
        changed = [run for run in asked if _head(_file(folder, run)).get("stamp") != _stamp(run)]
        for run in following(changed, "fetching"):
            _write(_file(folder, run), run)


def connect(project: str) -> Any:
    """W&B's API, once the server has answered: the client itself would try for long. To be used in `explained`."""
    import wandb

    if not PROJECT.fullmatch(project):
        raise ConfigError(f"{project} is no W&B project: it is named as in entity/project.")
    requests.get(wandb.setup().settings.base_url, timeout=SECONDS)
    return wandb.Api()


@contextmanager
def explained(project: str) -> Iterator[None]:
    """What W&B raises as a ConfigError that says what to do."""
    from wandb.errors import AuthenticationError, Error, UsageError
    from wandb.sdk.lib.service.service_connection import WandbApiFailedError

    try:
        yield
    except (AuthenticationError, UsageError):
        raise ConfigError(f"W&B does not let you use {project}: run `wandb login` first.") from None
    except (Error, WandbApiFailedError) as error:
        reason = str(error).partition("\n")[0].rstrip(".")
        raise Unreachable(f"W&B does not answer as it should ({reason}): try again later.") from None
    except (requests.RequestException, TimeoutError, ConnectionError) as error:
        raise Unreachable(f"W&B does not answer ({type(error).__name__}): try again when there is a network.") from None
    except ValueError as error:
        if not missing(error):
            raise
        raise ConfigError(
            f"W&B has no project {project}, or not for you: look at its address in the browser."
        ) from None


def missing(error: ValueError) -> bool:
    """Whether an error of W&B's says that there is no such project."""
    return str(error).startswith("Could not find project")


def following(runs: Collection[Any], doing: str) -> Iterator[Any]:
    """The runs, with a bar on a terminal."""
    console = Console(stderr=True)
    return iter(track(runs, f"{doing} {len(runs)} runs", console=console, disable=not console.is_terminal or not runs))


def history(run: Any) -> Iterator[Row]:
    """Every row of an online run; where its history comes from tables, they hold nothing for what a row has not."""
    for row in run.scan_history(use_cache=False):
        yield {name: value for name, value in row.items() if value is not None}


def load(folder: Path, wanted: Collection[str] | None = None) -> Logs:
    """The runs that `fetch` has left in a folder. wanted: the only run ids of interest."""
    runs, problems = {}, []
    for path in sorted(folder.glob("*.jsonl")):
        if wanted is None or path.stem in wanted:
            try:
                runs[path.stem] = _run(path)
            except (ValueError, OSError) as reason:
                problems.append(f"{path} is passed over: {reason}.")
    return Logs(f"mirror:{folder}", runs, tuple(problems))


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


def _file(folder: Path, run: Any) -> Path:
    return folder / f"{run.id}.jsonl"


def _stamp(run: Any) -> list[Any]:
    """What changes when a run does."""
    return [run.heartbeat_at, run.history_line_count, run.state]


def _head(path: Path) -> dict[str, Any]:
    """The first line of a file; empty if there is none of this version."""
    try:
        with path.open(encoding="utf-8") as lines:
            head = json.loads(next(lines, ""))
    except (FileNotFoundError, ValueError):
        return {}
    return head if isinstance(head, dict) and head.get("version") == VERSION else {}


def _write(path: Path, run: Any) -> None:
    """Write a run atomically."""
    rows = list(history(run))
    ends = joined([rows])
    head = {
        "version": VERSION,
        "stamp": _stamp(run),
        "state": run.state,
        "link": run.url,
        "config": dict(run.config),
        "last": ends[-1] if ends else None,
    }
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    beside.write_text("".join(json.dumps(line) + "\n" for line in (head, *rows)), encoding="utf-8")
    beside.replace(path)

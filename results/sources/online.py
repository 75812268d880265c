"""W&B's server: a project's runs, and what can go wrong in talking to it. Importing this imports W&B's client."""

import re
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests
import wandb
from wandb.errors import AuthenticationError, Error, UsageError
from wandb.sdk.lib.service.service_connection import WandbApiFailedError

from sparse_rnn.core.command_line import warn
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.progress import tracked
from sparse_rnn.core.wandb_environment import own_run_only
from sparse_rnn.core.wording import counted

from . import mirror
from .logs import Row, Unreachable, joined

PROJECT = re.compile(r"(?!\.\.?/)[^/\s]+/(?!\.\.?$)[^/\s]+")
SECONDS = 10.0


def fetch(project: str, folder: Path, wanted: Collection[str] | None = None) -> None:
    """Make a folder the mirror of a project `entity/project`, with every row of its runs, not W&B's sample of 500.

    Runs that have not changed since are not fetched again, and a run that was deleted online is deleted here. wanted:
    the only run ids to fetch. Raises ConfigError if the folder is another project's copy, nobody is logged in or there
    is no such project, Unreachable if W&B does not answer.
    """
    with explained(project):
        mirror.check_project(folder, project)
        online = {run.id: run for run in connect(project).runs(project)}
        for run_id in [run_id for run_id in online if not mirror.is_file_name(run_id)]:
            del online[run_id]
            print(f"warning: the run {run_id!r} is skipped: its id cannot be a file's name", file=sys.stderr)
        folder.mkdir(parents=True, exist_ok=True)
        for run_id, path in mirror.copies(folder).items():
            if run_id not in online:
                path.unlink()
        chosen = [run for run_id, run in online.items() if wanted is None or run_id in wanted]
        changed = [run for run in chosen if mirror.stamp(folder, run.id) != _stamp(run)]
        for run in with_progress(changed, "fetching"):
            if mirror.is_usable(folder, run.id):
                _copy(run, project, folder)
            else:
                warn(f"{folder} has something that is no file in the place of {run.id}: it is not fetched.")


def _copy(run: Any, project: str, folder: Path) -> None:
    rows = list(history(run))
    ends = joined([rows])
    head = {
        "project": project,
        "stamp": _stamp(run),
        "state": run.state,
        "link": run.url,
        "config": dict(run.config),
        "last": ends[-1] if ends else None,
    }
    mirror.write(folder, run.id, head, rows)


def _stamp(run: Any) -> list[Any]:
    """What changes when a run does."""
    return [run.heartbeat_at, run.history_line_count, run.state]


def connect(project: str) -> Any:
    """W&B's API for a project. To be called within `explained`."""
    if not PROJECT.fullmatch(project):
        raise ConfigError(f"{project} is not a W&B project: write entity/project.")
    # The client would retry for minutes: ask once ourselves whether the server answers.
    with own_run_only(Path(tempfile.gettempdir())):
        requests.get(wandb.setup().settings.base_url, timeout=SECONDS)
        return wandb.Api()


@contextmanager
def explained(project: str) -> Iterator[None]:
    """Within it, W&B's errors become a ConfigError that says what to do."""
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
        if not is_missing(error):
            raise
        raise ConfigError(
            f"W&B has no project {project}, or you have no access to it: check its address in the browser."
        ) from None


def is_missing(error: ValueError) -> bool:
    """Whether an error of W&B's says that there is no such project."""
    return str(error).startswith("Could not find project")


def with_progress(runs: Collection[Any], doing: str) -> Iterator[Any]:
    """The runs one by one, with a progress bar if stderr is a terminal."""
    return tracked(runs, f"{doing} {counted(len(runs), 'run')}")


def history(run: Any) -> Iterator[Row]:
    """Every row of an online run, without the empty values that W&B returns for keys that a row does not have."""
    for row in run.scan_history(use_cache=False):
        yield {name: value for name, value in row.items() if value is not None}

"""A store of MLflow's runs: which one, how it is opened, and what ours have there. Imports MLflow only to open one."""

import logging
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import requests
from filelock import FileLock

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.runs.folder import runs_root

if TYPE_CHECKING:
    from mlflow import MlflowClient

RUN_ID = "sparse_rnn.run_id"  # the tag with our id of a run; MLflow gives each one of its own
RECORD = "record.json"  # the artifact
EPOCH, VALID, FINAL = "epoch", "valid/loss", "best/valid/loss"  # metrics of each row, of an epoch's, of the last one
LARGEST = sys.float_info.max  # which databases have in the place of infinity
SQLITE = "sqlite:///"
# A server that is gone must not stop training for minutes; MLflow reports its use to its makers unless told not to.
OURS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def store_of(uri: str | None) -> str:
    """The store that is meant: this one, else that of MLFLOW_TRACKING_URI, else a database in the folder of runs."""
    own = (runs_root() / "mlflow" / "mlflow.db").absolute()
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"{SQLITE}{own}"


@cache
def connect(uri: str) -> "MlflowClient":
    """A client of a store, once the store has answered; the database of `sqlite:///PATH` is made if it is not there.

    Variables of MLflow that the user has set hold. May raise anything that MLflow raises.
    """
    for name, value in OURS.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient

    logging.getLogger("urllib3").setLevel(logging.ERROR)  # which would say that it tries again
    if is_server(uri):
        requests.get(uri, timeout=float(os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"]))  # MLflow would try for long
    with _alone(uri):
        client = MlflowClient(tracking_uri=uri)
    client.search_experiments(max_results=1)
    return client


def check_store(uri: str) -> None:
    """Raise ConfigError if the store of a run that is to begin does not answer."""
    try:
        connect(uri)
    except Exception as error:
        raise ConfigError(
            f"logger=mlflow cannot use {uri} ({reason_of(error)}): start that server, name another store by "
            "logger.uri=URI, or leave mlflow out."
        ) from None


def is_server(uri: str) -> bool:
    """Whether a store is a server."""
    return uri.startswith(("http://", "https://"))


def may_exist(uri: str) -> bool:
    """False for a database whose file is not there."""
    return not uri.startswith(SQLITE) or _database(uri).exists()


def artifacts_of(uri: str) -> str | None:
    """Where a new experiment is to keep its files: beside a database of ours; None leaves it to the server."""
    return str(_database(uri).parent / "artifacts") if uri.startswith(SQLITE) else None


def reason_of(error: BaseException, before: BaseException | None = None) -> str:
    """Why a store does not answer: the first line of what began it, which MLflow and its layers have wrapped.

    before: what was being handled already, and has nothing to do with it.
    """
    while (cause := error.__cause__ or error.__context__) not in (None, before):
        error = cause
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _database(uri: str) -> Path:
    return Path(uri.removeprefix(SQLITE)).absolute()


def _alone(uri: str) -> AbstractContextManager[object]:
    """For a database: no other process makes its tables at the same time, on which MLflow fails."""
    if not uri.startswith(SQLITE):
        return nullcontext()
    path = _database(uri)
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(path.with_name(f".{path.name}.lock"))

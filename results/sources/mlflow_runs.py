"""Runs from a store of MLflow's: a server, or a database on disk."""

import tempfile
from collections import defaultdict
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sparse_rnn.core.errors import ConfigError, DamagedFile
from sparse_rnn.runs.folder import RunFolder, load_record
from sparse_rnn.runs.mlflow_store import EPOCH, FINAL, LARGEST, RECORD, RUN_ID, connect, is_server, may_exist, reason_of

from .logs import LoggedRun, Logs, Row, Unreachable, joined, logged_config, logged_run

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

PAGE = 500
EXACT = 2**53  # below it, a whole number was one before MLflow made it a float


def load(store: str, wanted: Collection[str] | None = None) -> Logs:
    """All runs of a store, or the `wanted` ones. Of several runs of one id, the newest counts.

    Raises ConfigError if there is no such database, Unreachable if the store does not answer.
    """
    if not may_exist(store):
        raise ConfigError(f"There is no {store}: give the store of your runs by --source mlflow:URI.")
    try:
        client = connect(store)
        found = {run.data.tags[RUN_ID]: run for run in _all_runs(client)}
        runs, problems = {}, []
        for run_id, run in sorted(found.items()):
            if wanted is None or run_id in wanted:
                try:
                    runs[run_id] = _run(client, store, run_id, run)
                except (ValueError, DamagedFile) as reason:
                    problems.append(f"The run {run_id} of {store} is skipped: {str(reason).rstrip('.')}.")
    except ModuleNotFoundError:
        raise
    except Exception as error:
        raise Unreachable(f"MLflow's {store} does not answer as it should ({reason_of(error)}).") from None
    return Logs(f"mlflow:{store}", runs, tuple(problems))


def _all_runs(client: "MlflowClient") -> Iterator["Run"]:
    """The runs of sparse_rnn in all experiments, the newest last."""
    experiments = [each.experiment_id for each in client.search_experiments()]
    ours, token = f"tags.`{RUN_ID}` LIKE '%'", None
    while True:
        page = client.search_runs(experiments, ours, 1, PAGE, ["attributes.start_time ASC"], token)
        yield from page
        if not (token := page.token):
            return


def _run(client: "MlflowClient", store: str, run_id: str, run: "Run") -> LoggedRun:
    """A run as the store has it; raises ValueError and DamagedFile if it lacks something."""
    number = run.info.run_id
    with tempfile.TemporaryDirectory() as folder:
        try:
            client.download_artifacts(number, RECORD, folder)
        except Exception as error:  # of any kind of store; a server that is gone shows in the next request
            raise ValueError(f"{RECORD} is not there ({reason_of(error)})") from None
        record = load_record(RunFolder(Path(folder)))
    if record is None:
        raise ValueError(f"{RECORD} is not there")
    page = f"{store.rstrip('/')}/#/experiments/{run.info.experiment_id}/runs/{number}"
    return logged_run(
        run_id,
        logged_config(record),
        _last_row(run),
        failed=run.info.status == "FAILED",
        link=page if is_server(store) else str(run.info.artifact_uri).removeprefix("file://"),
        read=lambda: _rows(client, run),
    )


def _last_row(run: "Run") -> Row | None:
    """The last row of a finished run, of the newest value of every metric, which MLflow sends with the run."""
    newest = {metric.key: metric for metric in run.data.to_proto().metrics}
    if FINAL not in newest:
        return None
    end = newest[FINAL].timestamp
    values = {key: _number(metric.value) for key, metric in newest.items() if metric.timestamp == end}
    return {"step": int(newest[FINAL].step), **values}


def _rows(client: "MlflowClient", run: "Run") -> list[Row]:
    """All complete rows, from the history of every metric: the values of one row have one time."""
    rows: dict[int, dict[str, Any]] = defaultdict(dict)
    for key in run.data.metrics:
        for metric in client.get_metric_history(run.info.run_id, key):
            rows[metric.timestamp] |= {"step": metric.step, key: _number(metric.value)}
    return joined([[rows[time] for time in sorted(rows) if EPOCH in rows[time]]])


def _number(value: float) -> float:
    """A value as it was before MLflow had it."""
    if abs(value) == LARGEST:
        return float("inf") if value > 0 else float("-inf")
    return int(value) if value.is_integer() and abs(value) < EXACT else value

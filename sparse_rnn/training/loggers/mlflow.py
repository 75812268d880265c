"""A run in a store of MLflow's."""

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypedDict

from sparse_rnn.config.identity import identity
from sparse_rnn.config.stored import flat
from sparse_rnn.core.command_line import warn
from sparse_rnn.core.files import write_json
from sparse_rnn.core.reading import read_facts
from sparse_rnn.core.wording import counted
from sparse_rnn.data.labels import dataset_name
from sparse_rnn.runs.folder import RunFolder, read_record
from sparse_rnn.runs.mlflow_store import EPOCH, FINAL, RUN_ID, VALID, artifacts_of, connect, reason_of
from sparse_rnn.training.loggers.base import Logger, Row

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Metric

KEPT = "mlflow.json"
FIRST_PAUSE = 30.0  # seconds after a failure, in which nothing is sent; each next one is twice as long
BATCH = 1000  # metrics, MLflow's limit
PARAMS = 100  # MLflow's limit of a batch
LONGEST = 6000  # characters of a parameter, MLflow's limit
FORBIDDEN = re.compile(r"[^\w.\-/ :]")  # in the names of parameters
ENDS = {"stopped": "KILLED", "failed": "FAILED"}  # by the status of the record
TAGGED = ("model", "sparsifier", "optimizer", "budget")

Place = tuple[int, bool, bool]  # of a row: its step, whether it is an epoch's, whether it is the last


class Kept(TypedDict, total=False):
    """What the folder of a run keeps, so that the run goes on in the same run of MLflow's. store: for people."""

    run: str
    store: str


class MLflow(Logger):
    """A run in a store. Rows that the store does not take wait, and are sent with later ones, at the latest at the end.

    before: the rows of earlier processes; those that the store has already are not sent again.
    """

    def __init__(
        self, store: str, experiment: str, folder: RunFolder, record: Mapping[str, Any], before: Iterable[Row]
    ) -> None:
        self._store, self._experiment, self._folder, self._record = store, experiment, folder, record
        self._client: MlflowClient | None = None
        self._run, self._there = "", frozenset[Place]()
        self._waiting: list[tuple[int, Row]] = []
        self._stamp, self._pause, self._silent_until = 0, FIRST_PAUSE, 0.0
        for row in before:
            self._wait(row)
        self._try(self._send)

    def row(self, row: Row) -> None:
        """Send a row, with those that wait, unless the store has failed just now."""
        self._wait(row)
        if time.monotonic() >= self._silent_until:
            self._try(self._send)

    def finish(self, exit_code: int) -> None:
        """Send what waits, and say in the store how the run has ended."""
        self._try(self._send)
        if self._waiting:
            rows = counted(len(self._waiting), "row")
            warn(f"{self._store} lacks {rows} of {self._folder.path.name}: metrics.jsonl has every row.")
            return
        status = (read_record(self._folder) or {}).get("status", "")
        self._try(lambda client: client.set_terminated(self._run, ENDS.get(status, "FINISHED")))
        self.recorded()

    def recorded(self) -> None:
        """Send the record as it is now."""
        if not self._waiting:
            self._try(lambda client: client.log_artifact(self._run, str(self._folder.record)))

    def _wait(self, row: Row) -> None:
        """Let a row wait, with a time of its own, by which its values are found together again."""
        self._stamp = max(self._stamp + 1, round(time.time() * 1000))
        self._waiting.append((self._stamp, row))

    def _try(self, work: "Callable[[MlflowClient], None]") -> None:
        """Do something in the store. Whatever it raises is said once, and the store left alone for a while."""
        before = sys.exception()  # such as that which stops the run
        try:
            work(self._opened())
            self._pause = FIRST_PAUSE
        except Exception as error:
            reason = reason_of(error, before)
            warn(f"{self._store} takes no rows ({reason}): training goes on, and they are sent when it does.")
            self._silent_until = time.monotonic() + self._pause
            self._pause *= 2

    def _send(self, client: "MlflowClient") -> None:
        """Send the rows that wait. A batch that is sent twice, since its answer was lost, is in the store once."""
        new = [(stamp, row) for stamp, row in self._waiting if place(row) not in self._there]
        metrics = [metric for stamp, row in new for metric in as_metrics(row, stamp)]
        for begin in range(0, len(metrics), BATCH):
            client.log_batch(self._run, metrics=metrics[begin : begin + BATCH])
        self._waiting.clear()

    def _opened(self) -> "MlflowClient":
        """The client, once the run is there: that which the folder names, else a new one."""
        if self._client is None:
            client = connect(self._store)
            kept = self._folder.path / KEPT
            run = read_facts(kept, Kept).get("run", "")
            if not is_there(client, run):
                run = self._created(client)
                write_json(kept, {"run": run, "store": self._store})
            else:
                client.update_run(run, status="RUNNING")
            if not client.get_run(run).data.params:
                self._describe(client, run)
            self._run, self._there = run, places(client, run)
            self._client = client
        return self._client

    def _created(self, client: "MlflowClient") -> str:
        found = client.get_experiment_by_name(self._experiment)
        number = (
            found.experiment_id
            if found is not None
            else client.create_experiment(self._experiment, artifact_location=artifacts_of(self._store))
        )
        run_id, config = self._record["run_id"], self._record["config"]
        tags = {key: config[key]["name"] for key in TAGGED} | {"dataset": dataset_name(config["dataset"])}
        tags |= {RUN_ID: run_id, "group": run_id.rsplit("-s", 1)[0]}
        if commit := self._record["environment"].get("commit"):
            tags["mlflow.source.git.commit"] = commit
        return str(client.create_run(number, run_name=run_id, tags=tags).info.run_id)

    def _describe(self, client: "MlflowClient", run: str) -> None:
        """Send what decides what the run computes: it cannot change, as MLflow demands of parameters."""
        from mlflow.entities import Param

        settings = flat(identity(self._record["config"]))
        params = [Param(FORBIDDEN.sub("_", key), str(value)[:LONGEST]) for key, value in settings]
        for begin in range(0, len(params), PARAMS):
            client.log_batch(run, params=params[begin : begin + PARAMS])


def is_there(client: "MlflowClient", run: str) -> bool:
    """Whether the store has a run, and nobody has deleted it."""
    from mlflow.exceptions import MlflowException

    try:
        return bool(run) and client.get_run(run).info.lifecycle_stage == "active"
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return False


def as_metrics(row: Row, stamp: int) -> "Iterator[Metric]":
    """The values of a row, all of one time in milliseconds; the epoch comes last: where it is, the row is complete."""
    from mlflow.entities import Metric

    values = {key: value for key, value in row.items() if key not in ("step", EPOCH) and isinstance(value, int | float)}
    for key, value in (values | {EPOCH: row["epoch"]}).items():
        yield Metric(key, float(value or 0), stamp, int(row["step"] or 0))


def place(row: Row) -> Place:
    """Where a row stands in its run."""
    return int(row["step"] or 0), VALID in row, FINAL in row


def places(client: "MlflowClient", run: str) -> frozenset[Place]:
    """Where the rows stand that a store has of a run."""
    epochs, last = ({metric.timestamp for metric in client.get_metric_history(run, key)} for key in (VALID, FINAL))
    rows = client.get_metric_history(run, EPOCH)
    return frozenset((row.step, row.timestamp in epochs, row.timestamp in last) for row in rows)

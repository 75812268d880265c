"""Runs in MLflow: what a server and a database get, through interruptions and failures of either side."""

import signal
from pathlib import Path

import pytest
from conftest import Server
from small_runs import (
    folder_of,
    in_own_process,
    record_of,
    rows_of,
    runs_in,
    stop,
    train,
    values_in,
    values_of,
    when_an_epoch_is_logged,
)

from sparse_rnn.config.identity import identity
from sparse_rnn.config.stored import flat
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.runs.folder import runs_root
from sparse_rnn.runs.mlflow_store import connect
from sparse_rnn.training.loggers import mlflow

LOGGED = "logger=mlflow"


def without_times(values: list[tuple[int, str, float]]) -> list[tuple[int, str, float]]:
    """Without what depends on the clock: rows that are trained again keep the times of their first training."""
    return [value for value in values if not value[1].startswith(("throughput/", "clock/"))]


def test_what_a_server_gets_of_a_run(server: Server, tmp_path: Path) -> None:
    folder = train(LOGGED, "seed=3", "logger.project=papers")
    [run] = runs_in(server.uri, folder)
    assert values_in(server.uri, run) == values_of(folder)
    settings = dict(flat(identity(record_of(folder)["config"])))
    assert run.data.params == {key: str(value) for key, value in settings.items()}
    assert run.data.params["model.hidden"] == "8"
    expected = {"model": "stacked_lstm", "dataset": "pydoc", "sparsifier": "selfish", "optimizer": "snt_asgd"}
    expected |= {"budget": "smoke", "group": folder.path.name.rsplit("-s", 1)[0]}
    assert expected.items() <= run.data.tags.items()
    assert (run.info.run_name, run.info.status) == (folder.path.name, "FINISHED")
    client = connect(server.uri)
    assert client.get_experiment(run.info.experiment_id).name == "papers"
    record = client.download_artifacts(run.info.run_id, "record.json", str(tmp_path))
    assert Path(record).read_text() == folder.record.read_text()


def test_a_run_that_is_killed_and_stopped_goes_on_in_the_same_run(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = record_of(train("logger=files", "seed=2"))
    folder_of("seed=2").path.rename(folder_of("seed=2").path.with_name("undisturbed"))
    seldom = ("seed=2", LOGGED, "checkpoint.every_minutes=1000")
    process = in_own_process(*seldom, killed_after=2)
    process.join()
    assert process.exitcode == -signal.SIGKILL
    [run] = runs_in(server.uri, folder_of("seed=2"))
    assert run.info.status == "RUNNING"
    stop(monkeypatch, *seldom, after=3)  # which trains the two epochs again, since nothing was saved
    [run] = runs_in(server.uri, folder_of("seed=2"))
    assert run.info.status == "KILLED"
    folder = train("seed=2", LOGGED)
    [run] = runs_in(server.uri, folder)
    assert run.info.status == "FINISHED"
    assert without_times(values_in(server.uri, run)) == without_times(values_of(folder))
    assert record_of(folder)["digest"] == undisturbed["digest"]


def test_a_run_that_is_trained_anew_is_another_run(database: str) -> None:
    folder = train(LOGGED)
    folder.path.rename(folder.path.with_name("aside"))
    train(LOGGED)
    assert len(runs_in(database, folder)) == 2


def test_a_run_that_was_deleted_there_is_made_anew(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stop(monkeypatch, LOGGED, after=2)
    [run] = runs_in(database, folder_of())
    connect(database).delete_run(run.info.run_id)
    folder = train(LOGGED)
    [run] = runs_in(database, folder)
    assert values_in(database, run) == values_of(folder)


def test_two_runs_at_once_make_the_database(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    processes = [in_own_process(LOGGED, f"seed={seed}") for seed in (1, 2)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    for seed in (1, 2):
        folder = folder_of(f"seed={seed}")
        store = f"sqlite:///{folder.path.parent.absolute() / 'mlflow' / 'mlflow.db'}"
        [run] = runs_in(store, folder)
        assert values_in(store, run) == values_of(folder)


def test_without_a_server_no_run_begins() -> None:
    with pytest.raises(ConfigError) as caught:
        train(LOGGED, "logger.uri=http://127.0.0.1:9")
    assert str(caught.value) == (
        "logger=mlflow cannot use http://127.0.0.1:9 ([Errno 111] Connection refused): start that server, name another "
        "store by logger.uri=URI, or leave mlflow out."
    )
    assert not runs_root().exists()


def test_a_server_that_goes_and_comes_back_has_every_row(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    when_an_epoch_is_logged(monkeypatch, {1: server.stop, 4: server.start})
    folder = train(LOGGED, "seed=4")
    [run] = runs_in(server.uri, folder)
    assert values_in(server.uri, run) == values_of(folder)
    assert run.info.status == "FINISHED"
    said = [line for line in capsys.readouterr().err.splitlines() if server.uri in line]
    assert said == [
        f"warning: {server.uri} takes no rows ([Errno 111] Connection refused): training goes on, and they are sent "
        "when it does."
    ]


def test_a_server_that_stays_away_loses_no_run(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    undisturbed = record_of(train("logger=files", "seed=5"))
    folder_of("seed=5").path.rename(folder_of("seed=5").path.with_name("undisturbed"))
    when_an_epoch_is_logged(monkeypatch, {2: server.stop})
    monkeypatch.setattr(mlflow, "FIRST_PAUSE", 1000.0)
    folder = train(LOGGED, "seed=5")
    record = record_of(folder)
    assert (record["status"], record["digest"]) == ("finished", undisturbed["digest"])
    waiting = sum(row["step"] > 30 for row in rows_of(folder))
    assert f"lacks {waiting} rows of {folder.path.name}: metrics.jsonl has every row." in capsys.readouterr().err


def test_a_run_that_has_begun_goes_on_without_the_server(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop(monkeypatch, LOGGED, "seed=6", after=1)
    server.stop()
    connect.cache_clear()  # as in another process
    stop(monkeypatch, LOGGED, "seed=6", after=2)
    assert "takes no rows ([Errno 111] Connection refused)" in capsys.readouterr().err
    server.start()
    folder = train(LOGGED, "seed=6")
    [run] = runs_in(server.uri, folder)
    assert values_in(server.uri, run) == values_of(folder)

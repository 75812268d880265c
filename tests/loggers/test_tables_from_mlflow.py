"""Tables made from MLflow: they are those that W&B's logs and the records give."""

import re
from pathlib import Path

import pytest
from conftest import Server
from small_runs import SMALL, in_own_process, runs_in, stop, train

from results.__main__ import main
from results.sources.choice import load
from results.sources.logs import LoggedRun
from results.sources.sync import sync
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.runs.folder import runs_root
from sparse_rnn.runs.mlflow_store import connect

BOTH = "logger=[wandb,mlflow]"
SWEEP = "sparsifier=selfish,dense"


def facts(run: LoggedRun) -> dict[str, object]:
    return {name: value for name, value in run.facts.items() if name != "link"}


def table_from(source: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What is printed, without the lines that name the source."""
    own = [each for each in SMALL if not each.startswith("sparsifier=")]
    words = ["table", "--sweep", SWEEP, *own, "seeds=11,12", "--source", source, "--allow-missing"]
    monkeypatch.setattr("sys.argv", ["results", *words])
    capsys.readouterr()
    main()
    said = capsys.readouterr()
    assert not said.err
    return re.sub(r"(?m)^(Source|Made by|After the runs).*\n", "", said.out)


def test_the_same_tables_from_every_source(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was killed, stopped and finished, one that went through, and one that was stopped."""
    in_own_process(BOTH, "seed=11", killed_after=2).join()
    stop(monkeypatch, BOTH, "seed=11", after=3)
    finished = [train(BOTH, "seed=11"), train(BOTH, "seed=11", "sparsifier=dense")]
    stop(monkeypatch, BOTH, "seed=12", after=2)
    offline, recorded, stored = load("runs"), load("records"), load(f"mlflow:{server.uri}")
    assert len(recorded.runs) == 3
    assert not [each for each in stored.problems if any(run_id in each for run_id in recorded.runs)]
    for run_id, run in recorded.runs.items():
        other = stored.runs[run_id]
        assert facts(other) == facts(run)
        assert (other.config, other.provenance) == (run.config, run.provenance)
        for mine, theirs in zip(run.read(), other.read(), strict=True):
            changes = {key for key in mine.keys() | theirs.keys() if mine.get(key) != theirs.get(key)}
            assert all(key.startswith("throughput/") for key in changes)
    tables = [
        table_from(source, capsys, monkeypatch) for source in ("runs", "records", f"mlflow:{server.uri}", "mlflow")
    ]
    assert len(set(tables)) == 1
    assert "(1/2 seeds)" in tables[0]
    [run] = runs_in(server.uri, finished[0])
    link = stored.runs[finished[0].path.name].link
    assert link == f"{server.uri}/#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    assert offline.runs.keys() == recorded.runs.keys()
    assert load(f"mlflow:{server.uri}", wanted={finished[1].path.name}).runs.keys() == {finished[1].path.name}


def test_of_two_runs_of_one_id_the_newest_counts(database: str) -> None:
    folder = train("logger=mlflow")
    folder.path.rename(runs_root() / "aside")
    train("logger=mlflow")
    newest = runs_in(database, folder)[0]
    [run] = load("mlflow").runs.values()
    assert newest.info.run_id in run.link
    assert Path(run.link).is_dir()
    assert run.state == "finished"
    (Path(run.link) / "record.json").unlink()
    logs = load("mlflow")
    assert not logs.runs
    assert logs.problems[0].startswith(f"The run {folder.path.name} of {database} is skipped: record.json is not there")


def test_infinite_and_missing_numbers_come_back(database: str) -> None:
    from mlflow.entities import Metric

    folder = train("logger=mlflow")
    [run] = runs_in(database, folder)
    values = {"x/none": float("nan"), "x/most": float("inf"), "x/least": float("-inf"), "epoch": 9.0}
    connect(database).log_batch(run.info.run_id, [Metric(key, value, 10**13, 999) for key, value in values.items()])
    row = load("mlflow").runs[folder.path.name].read()[-1]
    assert row["x/none"] != row["x/none"]
    assert (row["x/most"], row["x/least"], row["step"]) == (float("inf"), float("-inf"), 999)


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("mlflow:", "--source mlflow: is incomplete: a source is one of"),
        (
            "mlflow",
            "There is no sqlite:///.*/runs/mlflow/mlflow.db: give the store of your runs by --source mlflow:URI",
        ),
        ("mlflow:http://127.0.0.1:9", "MLflow's http://127.0.0.1:9 does not answer as it should .*Connection refused"),
    ],
)
def test_stores_that_cannot_be_read(source: str, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(ConfigError, match=sentence):
        load(source)
    assert not runs_root().exists()


def test_sync_takes_no_runs_of_mlflow() -> None:
    with pytest.raises(ConfigError, match="--source mlflow: sync uploads W&B's offline logs"):
        sync("team/papers", "mlflow")

"""The messages if W&B's server cannot be used, or if files are not what they seem."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from logged_runs import config_of, last, write_segment
from wandb_double import ENTITY, Server, end_client, serving

from results.sources.choice import load
from results.sources.sync import sync
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.runs.folder import runs_root

PROJECT = f"{ENTITY}/papers"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """W&B's client without a server and without what a user may have told it."""
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "config"))
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    end_client()
    yield monkeypatch
    end_client()


@pytest.fixture
def server(client: pytest.MonkeyPatch) -> Iterator[Server]:
    """A stand-in for W&B's server."""
    with serving() as server:
        client.setenv("WANDB_BASE_URL", server.url)
        yield server


def online(server: Server) -> None:
    """Put a finished run on the server."""
    run = server.run("papers", "a")
    run.config = {key: {"value": value} for key, value in config_of().items()}
    run.history, run.state = [last(3) | {"_step": 0, "gap": None}], "finished"


def test_without_a_network_there_is_one_sentence(client: pytest.MonkeyPatch) -> None:
    write_segment(runs_root() / "a", [last(1)])
    for read in (lambda: load(f"wandb://{PROJECT}"), lambda: sync(PROJECT)):
        with pytest.raises(ConfigError, match="W&B does not answer") as raised:
            read()
        assert "\n" not in str(raised.value)


def test_without_a_network_the_copy_is_read(server: Server, client: pytest.MonkeyPatch) -> None:
    online(server)
    first = load(f"wandb://{PROJECT}")
    assert not first.problems
    client.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    end_client()
    logs = load(f"wandb://{PROJECT}")
    assert logs.runs["a"].facts == first.runs["a"].facts
    assert logs.runs["a"].read() == [last(3)]
    assert "does not answer" in logs.problems[0]
    assert f".results/wandb/{PROJECT}" in logs.problems[0]


def test_an_error_of_the_server_is_one_sentence(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "_listed", lambda *_: None)
    with pytest.raises(ConfigError, match="does not answer as it should") as raised:
        load(f"wandb://{PROJECT}")
    assert "\n" not in str(raised.value)


def test_nobody_is_logged_in(server: Server, client: pytest.MonkeyPatch) -> None:
    client.delenv("WANDB_API_KEY")
    with pytest.raises(ConfigError, match="wandb login"):
        load(f"wandb://{PROJECT}")


def test_there_is_no_such_project(server: Server) -> None:
    with pytest.raises(ConfigError, match=f"no project {PROJECT}"):
        load(f"wandb://{PROJECT}")


@pytest.mark.parametrize("name", ["papers", "team/papers/more", ""])
def test_a_project_has_an_entity(name: str) -> None:
    with pytest.raises(ConfigError, match="entity/project"):
        load(f"wandb://{name}")


def test_an_online_run_of_another_schema_is_skipped(server: Server) -> None:
    online(server)
    server.run("papers", "a").config["record"]["value"]["schema"] = 1
    logs = load(f"wandb://{PROJECT}")
    assert not logs.runs
    assert "schema 1, not 2" in logs.problems[0]


def test_a_foreign_file_in_a_copy_is_skipped(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"step": 1}\n')
    (tmp_path / "b.jsonl").write_text("")
    logs = load(f"mirror:{tmp_path}")
    assert not logs.runs
    assert len(logs.problems) == 2


def test_records_of_another_schema_and_foreign_ones_are_skipped(tmp_path: Path) -> None:
    logged = config_of()
    provenance = logged.pop("record")
    right = {"run_id": "right", "status": "running", "config": logged, **provenance, "data_sha256": "0"}
    for name, record in {"old": right | {"schema": 1}, "foreign": {"status": "new"}, "right": right}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_text(json.dumps(record))
    (tmp_path / "right" / "metrics.jsonl").write_text('{"step": 1, "epoch": 1, "valid/loss": NaN}\n{"step": 2, "ep')
    logs = load(f"records:{tmp_path}")
    assert list(logs.runs) == ["right"]
    assert [row["step"] for row in logs.runs["right"].read()] == [1]
    assert logs.runs["right"].state == "unfinished"
    foreign, old = logs.problems
    assert "not the record of a run" in foreign
    assert "schema 1, not 2" in old
    assert list(load(f"records:{tmp_path}", {"right"}).problems) == []

"""The same runs, read from every source: W&B's offline logs, W&B's server, the records."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from logged_runs import kill, stop, train
from wandb_double import ENTITY, Server, end_client, serving

from results.sources.choice import load
from results.sources.logs import LoggedRun
from results.sources.online import fetch
from results.sources.sync import sync
from sparse_rnn.runs.folder import SCHEMA, RunFolder, runs_root

pytestmark = pytest.mark.processes

PROJECT = f"{ENTITY}/papers"
ONLINE = ("logger.mode=online", f"logger.entity={ENTITY}", "logger.project=papers")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A stand-in for W&B's server, to which the client is logged in."""
    with serving() as server:
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        end_client()  # the settings of an earlier test
        yield server
        end_client()


def facts(run: LoggedRun) -> dict[str, Any]:
    """The facts that do not depend on the source."""
    return {name: value for name, value in run.facts.items() if name != "link"}


def metrics(folder: RunFolder) -> list[Mapping[str, Any]]:
    """The rows that the trainer itself wrote."""
    return [json.loads(line) for line in folder.metrics.read_text().splitlines()]


def without_empty(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration less its empty mappings, which W&B does not keep; they are read back as defaults."""
    inner = {k: without_empty(v) if isinstance(v, Mapping) else v for k, v in config.items()}
    return {k: v for k, v in inner.items() if v != {}}


def assert_equal(first: LoggedRun, second: LoggedRun) -> None:
    """Equal in all but the link, the rows to the last digit."""
    assert facts(first) == facts(second)
    assert (without_empty(first.config), first.provenance) == (without_empty(second.config), second.provenance)
    assert first.read() == second.read()
    pd.testing.assert_frame_equal(first.history, second.history, check_dtype=False)  # W&B's server sends 40.0 as 40


def test_every_source_gives_the_same_runs(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that was killed, stopped and finished, and one without averaging: on disk, in the records, uploaded."""
    kill("seed=1", after=2)
    stop(monkeypatch, "seed=1", after=3)
    folders = [train("seed=1"), train("seed=2", "sparsifier=dense", "optimizer=adam")]
    assert len(list(folders[0].path.glob("wandb/offline-run-*"))) == 3
    sync(PROJECT)
    offline, recorded, online = load("runs"), load("records"), load(f"wandb://{PROJECT}")
    assert not (*offline.problems, *recorded.problems, *online.problems)
    assert offline.runs.keys() == recorded.runs.keys() == online.runs.keys()
    for run_id, run in offline.runs.items():
        assert_equal(run, recorded.runs[run_id])
        assert_equal(run, online.runs[run_id])
    for folder in folders:
        assert offline.runs[folder.path.name].read() == metrics(folder)
        assert offline.runs[folder.path.name].state == "finished"
    for logs in (recorded, online):
        frames = [each.frame.drop(columns="link") for each in (offline, logs)]
        pd.testing.assert_frame_equal(*frames, check_dtype=False)


def test_a_stopped_run_is_unfinished_in_every_source(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    stop(monkeypatch)
    sync(PROJECT, unfinished=True)
    offline, recorded, online = load("runs"), load("records"), load(f"wandb://{PROJECT}")
    ((run_id, run),) = offline.runs.items()
    assert run.state == "unfinished"
    assert_equal(run, recorded.runs[run_id])
    assert_equal(run, online.runs[run_id])


def test_sync_sends_every_row_once_and_in_order(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    stop(monkeypatch, "seed=1")
    folder = train("seed=1")
    stop(monkeypatch, "seed=2")
    sync(PROJECT)
    ((_, run),) = server.runs.items()
    assert run.rows() == metrics(folder)
    assert [row["_step"] for row in run.history] == list(range(len(run.history)))
    assert (run.run_id, run.display_name, run.state) == (folder.path.name, folder.path.name, "finished")
    assert run.group == folder.path.name.rsplit("-s", 1)[0]
    assert run.tags == ["stacked_lstm", "pydoc", "selfish", "snt_asgd", "smoke"]
    assert run.values()["record"]["schema"] == SCHEMA
    began = run.values()["record"]["started"]
    assert all(began < row["_timestamp"] < row["_timestamp"] + 1 for row in run.history)


def test_the_times_of_the_rows_are_kept(server: Server) -> None:
    from logged_runs import epoch, last, write_segment

    folder = runs_root() / "a"
    write_segment(folder, [epoch(1, _timestamp=1000.5), last(1) | {"_timestamp": 2000.25}])
    end_client()
    sync(PROJECT)
    assert [row["_timestamp"] for row in server.run("papers", "a").history] == [1000.5, 2000.25]


def test_a_second_sync_brings_the_rest_and_a_third_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop(monkeypatch)
    sync(PROJECT, unfinished=True)
    ((_, run),) = server.runs.items()
    before = len(run.history)
    assert before > 0
    folder = train()
    sync(PROJECT)
    assert len(run.history) > before
    assert run.rows() == metrics(folder)
    beat, asked = run.heartbeat, len(server.asked)
    capsys.readouterr()
    sync(PROJECT)
    assert run.heartbeat == beat
    assert "UpsertBucket" not in server.asked[asked:]
    assert capsys.readouterr().out.startswith(f"0 runs uploaded to {PROJECT}, 1 already there, 0 not finished")


def test_an_online_run_that_is_killed_stopped_and_resumed_arrives_whole(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill(*ONLINE, after=2)
    stop(monkeypatch, *ONLINE, after=3)
    run = server.runs["papers", next(runs_root().iterdir()).name]
    assert run.values()["record"]["environment"]["host"] != "elsewhere"
    monkeypatch.setattr("socket.gethostname", lambda: "elsewhere")
    folder = train(*ONLINE)
    assert run.values()["record"]["environment"]["host"] == "elsewhere"
    run_id = folder.path.name
    online = load(f"wandb://{PROJECT}").runs[run_id]
    assert online.read() == metrics(folder)
    assert_equal(online, load("records").runs[run_id])
    assert_equal(online, load("runs").runs[run_id])
    assert online.link.startswith(server.url)


def test_fetch_takes_only_what_has_changed(server: Server, tmp_path: Path) -> None:
    folders = [train(f"seed={seed}", *ONLINE) for seed in (1, 2)]
    names = [folder.path.name for folder in folders]
    fetch(PROJECT, tmp_path / "copy")
    stamps = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "copy").iterdir()}
    assert sorted(stamps) == [f"{name}.jsonl" for name in sorted(names)]
    server.asked.clear()
    fetch(PROJECT, tmp_path / "copy")
    assert "HistoryPage" not in server.asked
    changed = server.runs["papers", names[0]]
    changed.history.append({"step": 10**6, "epoch": 99, "_step": len(changed.history)})
    fetch(PROJECT, tmp_path / "copy")
    assert server.asked.count("HistoryPage") == 1
    assert load(f"mirror:{tmp_path / 'copy'}").runs[names[0]].read()[-1] == {"step": 10**6, "epoch": 99}
    del server.runs["papers", names[0]]
    (tmp_path / "copy" / "metrics.jsonl").write_text('{"step": 1}\n')
    fetch(PROJECT, tmp_path / "copy")
    assert (tmp_path / "copy" / "metrics.jsonl").exists()  # which it has not made
    assert list(load(f"mirror:{tmp_path / 'copy'}").runs) == [names[1]]
    assert list(load(f"mirror:{tmp_path / 'copy'}", wanted={names[0]}).runs) == []

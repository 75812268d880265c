"""The files of a run: planted links, modes, and what a changed value in its rows does to the results."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from run_helpers import Train, composed, folder_of, record_of

from results.sources import records
from sparse_rnn.config.identity import run_id
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.evaluate import evaluate
from sparse_rnn.runs.folder import RunFolder


def test_a_changed_value_in_the_rows_of_a_finished_run(tiny: list[str], train_here: Train) -> None:
    folder = train_here(tiny)
    name, root = run_id(composed(tiny)), folder.path.parent
    assert records.load(root).runs.keys() == {name}
    rows = [json.loads(line) for line in folder.metrics.read_text().splitlines()]
    rows[-1]["best/test/perplexity"] += 0.01
    folder.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))
    logs = records.load(root)
    assert not logs.runs
    (problem,) = logs.problems
    assert problem.startswith(f"{folder.metrics} is damaged: ")
    record = record_of(folder)
    del record["metrics_sha256"]  # as in older versions
    folder.record.write_text(json.dumps(record))
    assert records.load(root).runs.keys() == {name}


def with_link(overrides: list[str], root: Path, name: str) -> tuple[RunFolder, Path]:
    """The folder of a run that has not begun, with a link of that name in it, and the file that it leads to."""
    victim = root.with_name("victim")
    victim.write_text("precious")
    folder = folder_of(overrides, root)
    folder.path.mkdir(parents=True)
    (folder.path / name).symlink_to(victim)
    return folder, victim


@pytest.mark.parametrize("name", [".checkpoint.pt.tmp", ".record.json.tmp", ".best.next.safetensors.tmp"])
def test_a_planted_link_is_not_followed(tiny: list[str], root: Path, train_here: Train, name: str) -> None:
    _, victim = with_link(tiny, root, name)
    assert record_of(train_here(tiny))["status"] == "finished"
    assert victim.read_text() == "precious"


@pytest.mark.parametrize("name", ["metrics.jsonl", "record.json", "checkpoint.pt"])
def test_a_link_in_a_files_place_is_refused(tiny: list[str], root: Path, train_here: Train, name: str) -> None:
    folder, victim = with_link(tiny, root, name)
    with pytest.raises(ConfigError, match=rf"{re.escape(name)} is (no plain file|damaged)"):
        train_here(tiny)
    assert victim.read_text() == "precious"
    assert not folder.lock.exists()


def test_modes_of_a_runs_files_follow_the_umask(tiny: list[str], train_here: Train) -> None:
    before = os.umask(0o002)
    try:
        folder = train_here([*tiny, "checkpoint.keep=last", "snapshots=true", "snapshots.tokens=20"])
    finally:
        os.umask(before)
    files = [path for path in folder.path.rglob("*") if path.is_file()]
    assert {path.stat().st_mode & 0o777 for path in files} == {0o664}
    assert len(files) > 4


def test_weights_that_may_not_be_read_are_not_called_damaged(
    tiny: list[str], train_here: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = train_here([*tiny, "checkpoint.keep=last"])

    really_open = os.open

    def forbidden(path: Any, *others: Any, **named: Any) -> int:
        if Path(path).suffix in (".safetensors", ".pt"):
            raise PermissionError(13, "Permission denied", str(path))
        return really_open(path, *others, **named)

    monkeypatch.setattr("sparse_rnn.core.reading.os.open", forbidden)
    for weights in ("best", "raw"):
        with pytest.raises(PermissionError):
            evaluate(str(folder.path), "test", weights, "", "cpu", "1")

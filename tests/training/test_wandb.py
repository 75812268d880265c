"""The real W&B client, offline."""

import json
import os
import random
import signal
import sys

import pytest
from run_helpers import VARYING, Commands, Train, composed, folder_of, lines_in, record_of, rows_of, wait_until
from wandb_files import exit_codes, history, joined, run_record, segments

from sparse_rnn.config.identity import as_dict


def without_times(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    """Rows without what depends on the clock."""
    return [{key: value for key, value in row.items() if not key.startswith(VARYING)} for row in rows]


def test_rows_config_tags_and_end(tiny: list[str], train_here: Train) -> None:
    overrides = [*tiny, "logger=wandb", "sparsifier=rigl", "seed=3"]
    folder = train_here(overrides)
    (segment,) = segments(folder)
    run = run_record(segment)
    assert run.run_id == run.display_name == folder.path.name
    assert run.project == "sparse_rnn"
    assert run.run_group + "-s3-" + folder.path.name[-8:] == folder.path.name
    assert list(run.tags) == ["stacked_lstm", "text", "rigl", "snt_asgd", "paper"]
    config = {item.key: item.value_json for item in run.config.update}
    expected = as_dict(composed(overrides))
    assert {key: json.loads(config[key]) for key in expected} == expected
    assert without_times(history(segment)) == rows_of(folder)
    assert all({"step", "epoch"} <= row.keys() for row in history(segment))
    assert exit_codes(segment) == [0]


def test_digest_is_the_same_with_and_without(
    tiny: list[str], train_here: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    logged = record_of(train_here([*tiny, "logger=wandb"], "logged"))
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb", None)  # importing it fails
    plain = record_of(train_here([*tiny, "logger=files"]))
    assert plain["digest"] == logged["digest"]


@pytest.mark.processes
def test_segments_of_a_killed_run_join_to_its_metrics(tiny: list[str], commands: Commands) -> None:
    overrides = [*tiny, "training.epochs=24", "logger=wandb", "checkpoint.every_minutes=0.0002"]
    folder = folder_of(overrides, commands.root)
    draw = random.Random(5)
    for ending in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        rows = lines_in(folder.metrics) + draw.randrange(8, 16)
        process = commands.start(overrides)
        wait_until(lambda process=process, rows=rows: process.exitcode is not None or lines_in(folder.metrics) >= rows)
        os.kill(process.pid, ending)
        process.join(60)
        assert process.exitcode == {signal.SIGKILL: -9, signal.SIGTERM: 143}[ending]
    code, _ = commands.run(overrides)
    assert code == 0
    assert len(segments(folder)) == 4
    assert {segment.name for segment in segments(folder)} == {f"run-{folder.path.name}.wandb"}
    assert [exit_codes(segment) for segment in segments(folder)] == [[], [0], [], [0]]
    assert without_times(joined(folder)) == rows_of(folder)
    assert without_times(history(segments(folder)[-1])) == rows_of(folder)  # the last one alone is whole


def test_torn_tail_is_read_up_to_the_tear(tiny: list[str], train_here: Train) -> None:
    folder = train_here([*tiny, "logger=wandb"])
    (segment,) = segments(folder)
    whole, rows = segment.read_bytes(), history(segment)
    lengths = set()
    for length in range(len(whole) // 2, len(whole), 61):
        segment.write_bytes(whole[:length])
        read = history(segment)
        assert read == rows[: len(read)]
        lengths.add(len(read))
    assert len(lengths) > 3

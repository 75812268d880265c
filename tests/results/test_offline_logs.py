"""The runs that W&B's offline logs make: segments joined, other files skipped, and a cache."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from logged_runs import config_of, epoch, last, write_segment

from results.sources import log_index, offline
from results.sources.choice import load
from results.sources.wandb_file import Segment, read_segment
from sparse_rnn.core.errors import ConfigError


def test_segments_are_joined_and_the_later_wins(tmp_path: Path) -> None:
    write_segment(tmp_path / "1", [epoch(1, 9.0), epoch(2, 8.0), epoch(3, 7.0)], exit_code=1)
    write_segment(
        tmp_path / "2", [epoch(3, 6.0), {"step": 30, "epoch": 3, "train/loss_recent": 2.0}, epoch(4, 5.0), last(4, 5.0)]
    )
    write_segment(tmp_path / "3", [epoch(1)], name="b")
    logs = load(str(tmp_path))
    run = logs.runs["a"]
    assert run.read() == [
        *(epoch(1, 9.0), epoch(2, 8.0)),
        {"step": 30, "epoch": 3, "train/loss_recent": 2.0},
        *(epoch(3, 6.0), epoch(4, 5.0), last(4, 5.0)),
    ]
    assert run.final == last(4, 5.0)
    assert run.state == "finished"
    assert run.link.startswith(str(tmp_path / "2" / "wandb"))
    assert logs.runs["b"].state == "unfinished"
    assert not logs.problems


def test_the_order_is_that_of_the_beginnings_not_of_the_names(tmp_path: Path) -> None:
    write_segment(tmp_path / "z", [epoch(1, 9.0)])
    write_segment(tmp_path / "y", [epoch(1, 8.0)], exit_code=1)
    logs = load(str(tmp_path))
    run = logs.runs["a"]
    assert not logs.problems
    assert run.read() == [epoch(1, 8.0)]
    assert run.state == "failed"


def test_what_is_not_finite_arrives_as_a_number_or_a_word(tmp_path: Path) -> None:
    write_segment(tmp_path / "1", [epoch(1, math.nan, a=math.inf, b=-math.inf), epoch(2, a="NaN", b="-Infinity")])
    numbers, words = load(str(tmp_path)).runs["a"].read()
    assert math.isnan(numbers["valid/loss"])
    assert (numbers["a"], numbers["b"], words["b"]) == (math.inf, -math.inf, -math.inf)
    assert math.isnan(words["a"])


def test_what_is_no_run_of_this_schema_is_skipped(tmp_path: Path) -> None:
    write_segment(tmp_path / "old", [last(1)], config=config_of(schema=1), name="old")
    write_segment(tmp_path / "other", [{"loss": 1.0}], config={"lr": 0.1}, name="other")
    write_segment(tmp_path / "good", [last(1)], name="good")
    fake = tmp_path / "fake" / "wandb" / "run-1-fake" / "run-fake.wandb"
    fake.parent.mkdir(parents=True)
    fake.write_text("something else")
    for _ in range(2):  # from the files, and from what was kept of them
        logs = load(str(tmp_path))
        assert list(logs.runs) == ["good"], logs.problems
        fakes, olds, others = logs.problems
        assert str(fake) in fakes
        assert "not a log of W&B" in fakes
        assert "run-old.wandb" in olds
        assert "schema 1, not 2" in olds
        assert "run-other.wandb" in others
        assert "not a run of sparse_rnn" in others


def test_a_torn_tail_is_told_of_if_the_run_is_not_finished(whole: Path, tmp_path: Path) -> None:
    torn = tmp_path / "a" / "wandb" / "offline-run-1-a" / "run-a.wandb"
    torn.parent.mkdir(parents=True)
    torn.write_bytes(whole.read_bytes()[:-5])
    assert load(str(tmp_path)).runs["a"].state == "finished"
    assert not load(str(tmp_path)).problems
    torn.write_bytes(whole.read_bytes()[:-9000])
    logs = load(str(tmp_path))
    assert logs.runs["a"].state == "unfinished"
    assert str(torn) in logs.problems[0]


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of the runs `a` and `b`."""
    folder = tmp_path_factory.mktemp("two")
    for name in ("a", "b"):
        write_segment(folder / name, [epoch(1, math.nan), last(1)], name=name)
    return folder


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The logs that are opened from now on."""
    paths: list[Path] = []

    def read(path: Path) -> Segment:
        paths.append(path)
        return read_segment(path)

    monkeypatch.setattr(log_index, "read_segment", read)
    return paths


@pytest.fixture
def kept(two: Path, tmp_path: Path, opened: list[Path]) -> Path:
    """A folder of two runs that was read once."""
    folder = shutil.copytree(two, tmp_path / "kept", symlinks=True)
    load(str(folder))
    opened.clear()
    return folder


@pytest.mark.parametrize("start", ["b", "b/wandb"])
def test_runs_are_found_from_their_own_folder_and_wandbs(two: Path, tmp_path: Path, start: str) -> None:
    folder = shutil.copytree(two, tmp_path / "two", symlinks=True)
    assert list(load(str(folder / start)).runs) == ["b"]


def test_only_wanted_runs_are_opened(two: Path, opened: list[Path], tmp_path: Path) -> None:
    folder = shutil.copytree(two, tmp_path / "fresh", symlinks=True)
    assert list(load(str(folder), {"b", "c"}).runs) == ["b"]
    assert [path.stem for path in opened] == ["run-b"]


def test_a_second_reading_opens_nothing(kept: Path, opened: list[Path]) -> None:
    logs = load(str(kept))
    assert not opened
    assert [run.final for run in logs.runs.values()] == [last(1)] * 2
    assert load(str(kept), {"a"}).runs["a"].facts == logs.runs["a"].facts


def test_a_second_process_needs_no_wandb(kept: Path, opened: list[Path]) -> None:
    script = (
        "import sys; from results.sources.choice import load; "
        "print(len(load(sys.argv[1]).frame), 'wandb' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(kept)], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["2", "False"]


def test_a_changed_log_is_read_again(kept: Path, opened: list[Path], whole: Path) -> None:
    path = next(kept.glob("b/wandb/offline-run-*/run-b.wandb"))
    content, before = path.read_bytes(), path.stat().st_mtime_ns
    path.write_bytes(content[:-5])
    load(str(kept))
    os.utime(path, ns=(before, before))
    path.write_bytes(content[:-5])
    os.utime(path, ns=(before + 1, before + 1))
    load(str(kept))
    assert opened == [path, path]
    path.unlink()
    assert list(load(str(kept)).runs) == ["a"]


@pytest.mark.parametrize("content", ["{", "[]", '{"version": 0}', '{"version": 1, "files": 3}', None])
def test_a_damaged_index_only_costs_time(kept: Path, opened: list[Path], content: str | None) -> None:
    index = kept / ".results" / "index.json"
    if content is None:  # right but for what it holds of each file
        whole = json.loads(index.read_text())
        whole["files"] = {name: {"stamp": entry["stamp"], "segment": {}} for name, entry in whole["files"].items()}
        content = json.dumps(whole)
    index.write_text(content)
    assert len(load(str(kept)).runs) == 2
    assert len(opened) == 2
    load(str(kept))
    assert len(opened) == 2


def test_a_folder_that_cannot_be_written_only_costs_time(kept: Path, opened: list[Path]) -> None:
    (kept / ".results" / "index.json").unlink()
    (kept / ".results").rmdir()
    (kept / ".results").write_text("in the way")
    for _ in range(2):
        assert len(load(str(kept)).runs) == 2
    assert len(opened) == 4


def test_the_default_is_the_folder_of_all_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not load("runs").runs
    monkeypatch.setenv("SPARSE_RNN_RUNS", str(tmp_path))
    write_segment(tmp_path / "a", [last(1)])
    assert load("runs").source == "runs"
    assert list(load("runs").runs) == ["a"]


@pytest.mark.parametrize("source", ["record", "recods:/nowhere", "mirror:/nowhere", "run"])
def test_an_unknown_source_is_refused(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="a source is one of") as raised:
        load(source)
    near = {"record": "Did you mean records", "run": "Did you mean runs"}.get(source, "")
    assert near in str(raised.value)


def test_finding_looks_nowhere_else(tmp_path: Path) -> None:
    path = write_segment(tmp_path / "a", [last(1)])
    path.rename(path.with_name("elsewhere.wandb"))
    assert not offline.find_segments(tmp_path)[0]


def test_a_folder_of_another_name_is_no_longer_the_runs(tmp_path: Path) -> None:
    write_segment(tmp_path / "a", [epoch(1), last(1)], name="a")
    (tmp_path / "a" / "record.json").write_text("{}")
    assert list(offline.load(tmp_path).runs) == ["a"]
    (tmp_path / "a").rename(tmp_path / "a.old")
    logs = offline.load(tmp_path)
    assert not logs.runs
    assert len(logs.problems) == 1
    assert "its folder is not called a" in logs.problems[0]


def test_an_empty_segment_beside_others_is_not_worth_a_word(tmp_path: Path) -> None:
    written = write_segment(tmp_path, [epoch(1), last(1)], name="a")
    empty = tmp_path / "wandb" / "offline-run-20200101_000000-a" / "run-a.wandb"
    empty.parent.mkdir()
    empty.write_bytes(b"")
    assert offline.load(tmp_path).problems == ()
    written.unlink()
    [problem] = offline.load(tmp_path).problems
    assert "it holds no run yet" in problem

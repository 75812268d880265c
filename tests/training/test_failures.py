"""What goes wrong ends in one sentence, and what was good stays."""

import json
import os
import pickle
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from run_helpers import Commands, Train, composed, folder_of, record_of, rows_of
from stopping import poisoned_from

from sparse_rnn import evaluate
from sparse_rnn.core.errors import ConfigError, DamagedFile
from sparse_rnn.runs.folder import RunFolder, read_record
from sparse_rnn.training import session
from sparse_rnn.training.checkpoint import load_checkpoint
from sparse_rnn.training.trainer import Trainer

CALM = "checkpoint.every_minutes=1000"


def only_sentence(said: str) -> str:
    """The error, which must be the last line and the only one on it."""
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert errors == [said.splitlines()[-1]]
    return errors[0]


@pytest.mark.parametrize("bad", ["optimizer.lr=1e30", "optimizer.lr=1e36"])
def test_diverged(tiny: list[str], commands: Commands, bad: str) -> None:
    overrides = [*tiny, bad, CALM, "logger=files"]
    code, said = commands.run(overrides)
    assert code == 1
    sentence = only_sentence(said)
    assert "loss became" in sentence
    assert "lower optimizer.lr" in sentence
    record = record_of(folder_of(overrides, commands.root))
    assert record["status"] == "failed"
    assert f"error: {record['error']}" == sentence


def test_diverged_later_keeps_the_last_good_checkpoint(
    tiny: list[str], train_here: Train, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = [*tiny, "checkpoint.every_minutes=1e-9"]
    undisturbed = train_here(overrides, "undisturbed")
    folder = folder_of(tiny, root)

    with monkeypatch.context() as patch:
        patch.setattr(session, "Trainer", poisoned_from(37))
        with pytest.raises(ConfigError, match="loss became nan in epoch 3, step 38"):
            train_here(overrides)
    saved = load_checkpoint(folder.checkpoint)
    assert saved is not None
    assert saved["state"]["step"] == 37
    assert all(torch.isfinite(tensor).all() for tensor in saved["model"].values())
    assert record_of(folder)["status"] == "failed"
    train_here(overrides)
    assert record_of(folder)["digest"] == record_of(undisturbed)["digest"]


def test_an_error_of_a_component_is_recorded(
    tiny: list[str], train_here: Train, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "train_step", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        train_here(tiny)
    record = record_of(folder_of(tiny, root))
    assert record["status"] == "failed"
    assert record["error"] == "ZeroDivisionError: division by zero"


def test_out_of_memory(tiny: list[str], train_here: Train, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(Trainer, "train_step", exhausted)
    with pytest.raises(ConfigError, match=r"^Out of memory: lower training\.batch"):
        train_here(tiny)
    assert record_of(folder_of(tiny, root))["status"] == "failed"


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[None]:
    """A real file system of `size` at `folder`."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a small file system can only be mounted by root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(folder: Path, leave: int) -> Path:
    """Fill a file system but for `leave` bytes."""
    filler = folder / "filler"
    space = os.statvfs(folder)
    filler.write_bytes(b"x" * max(0, space.f_bavail * space.f_frsize - leave))
    return filler


@pytest.mark.processes
@pytest.mark.parametrize(
    ("logger", "leave"),
    [("files", 0), ("files", 40_000), ("files", 100_000), ("files", 150_000), ("wandb", 0), ("wandb", 150_000)],
)
def test_full_disk(tiny: list[str], train_here: Train, commands: Commands, logger: str, leave: int) -> None:
    overrides = [*tiny, f"logger={logger}", CALM, "snapshots=true", "snapshots.tokens=50", "model.hidden=32"]
    undisturbed = train_here([*overrides, "logger=files"], "undisturbed")
    with small_disk(commands.root, "4m"):
        folder = folder_of(overrides, commands.root)
        filler = fill(commands.root, leave)
        code, said = commands.run(overrides)
        assert code == (1 if leave else 2)  # 2: the run could not even begin
        assert "No space left on device" in only_sentence(said)
        assert ("the last checkpoint is intact" in said) == folder.checkpoint.exists()
        record = read_record(folder)
        assert record is None or record["status"] in ("running", "failed")
        load_checkpoint(folder.checkpoint)
        filler.unlink()
        code, said = commands.run(overrides)
        assert code == 0, said
        assert record_of(folder)["digest"] == record_of(undisturbed)["digest"]
        assert rows_of(folder) == rows_of(undisturbed)
        assert not list(folder.path.glob(".*"))


def test_read_only_file_system(tiny: list[str], train_here: Train, commands: Commands) -> None:
    with small_disk(commands.root, "4m"):
        subprocess.run(["mount", "-o", "remount,ro", str(commands.root)], check=True)
        code, said = commands.run([*tiny, "logger=files"])
    assert code == 2
    assert "cannot be used (Read-only file system)" in only_sentence(said)


def test_file_in_place_of_the_run_folder(tiny: list[str], commands: Commands) -> None:
    overrides = [*tiny, "logger=files"]
    path = folder_of(overrides, commands.root).path
    path.parent.mkdir()
    path.write_text("here first")
    code, said = commands.run(overrides)
    assert code == 2
    assert f"The run folder {path} cannot be used" in only_sentence(said)
    assert path.read_text() == "here first"


def test_file_in_place_of_the_folder_of_runs(tiny: list[str], train_here: Train, root: Path) -> None:
    root.write_text("here first")
    with pytest.raises(ConfigError, match=r"cannot be used .*: choose another with SPARSE_RNN_RUNS"):
        train_here(tiny)


class RunsCode:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


class Crash(BaseException):
    """The end of a process, with nothing saved."""


@pytest.fixture
def interrupted(tiny: list[str], train_here: Train, root: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run that ended in its third epoch."""
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "evaluate_and_keep_best", failing_in(2, Trainer.evaluate_and_keep_best))
        with pytest.raises(Crash):
            session.train(composed([*tiny, "logger=files"]), tiny)
    return folder_of(tiny, root)


def failing_in(epoch: int, original: Any) -> Any:
    def evaluate_and_keep_best(self: Trainer) -> Any:
        if self.state.epoch == epoch:
            raise Crash
        return original(self)

    return evaluate_and_keep_best


@pytest.mark.parametrize("damage", ["truncated", "empty", "code", "pickled code", "other keys"])
def test_damaged_checkpoint(
    tiny: list[str], train_here: Train, interrupted: RunFolder, tmp_path: Path, damage: str
) -> None:
    path, trap = interrupted.checkpoint, RunsCode(tmp_path / "code has run")
    interrupted.previous_checkpoint.unlink()
    if damage == "code":
        torch.save({"model": trap}, path)
    elif damage == "other keys":
        torch.save({"model": {}}, path)
    else:
        whole = path.read_bytes()
        contents = {"truncated": whole[: len(whole) // 2], "empty": b"", "pickled code": pickle.dumps(trap)}
        path.write_bytes(contents[damage])
    with pytest.raises(ConfigError, match=r"is damaged.*: remove checkpoint\.pt to restart the run"):
        train_here([*tiny, CALM])
    assert not trap.path.exists()
    assert record_of(interrupted)["status"] == "failed"
    path.unlink()
    assert record_of(train_here([*tiny, CALM]))["status"] == "finished"


@pytest.mark.parametrize("damage", ["truncated", "of another model", "missing"])
def test_damaged_best_weights(tiny: list[str], train_here: Train, damage: str) -> None:
    folder = train_here([*tiny, "checkpoint.keep=last"])
    if damage == "truncated":
        folder.best.write_bytes(folder.best.read_bytes()[:1000])
    elif damage == "missing":
        folder.best.unlink()
    else:
        folder.best.write_bytes(train_here([*tiny, "model.hidden=8"]).best.read_bytes())
    with pytest.raises(ConfigError, match=r"does not hold the weights of this run|has no best weights"):
        evaluate.evaluate(str(folder.path), "test", "best", "", "cpu", "1")
    assert "perplexity" in evaluate.evaluate(str(folder.path), "test", "raw", "", "cpu", "1")
    record = record_of(folder)
    folder.record.write_text(json.dumps(record | {"status": "running"}))
    with pytest.raises(ConfigError, match=r"best\.safetensors does not hold the weights of this run"):
        train_here([*tiny, "checkpoint.keep=last"])


def test_damage_is_named_by_its_own_error(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    assert load_checkpoint(path) is None
    path.write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(DamagedFile, match=r"checkpoint\.pt is damaged"):
        load_checkpoint(path)


def test_finished_run_needs_no_data(
    tiny: list[str], train_here: Train, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = train_here(tiny)
    before = {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")}
    capsys.readouterr()

    def refuse(self: Any) -> None:
        raise AssertionError("the data were read")

    monkeypatch.setattr(type(composed(tiny).dataset), "load", refuse)
    train_here(tiny)
    said = capsys.readouterr().out
    results = record_of(folder)["results"]
    assert f"{folder.path} is finished: valid perplexity {results['valid/perplexity']:.2f}" in said
    assert f"test {results['test/perplexity']:.2f}" in said
    assert {path: path.stat().st_mtime_ns for path in folder.path.rglob("*")} == before


def test_record_of_another_configuration_is_stale(tiny: list[str], train_here: Train) -> None:
    folder = train_here(tiny)
    record = record_of(folder)
    record["config"]["training"]["clip"] = 3.0
    record["config"]["optimizer"]["lr"] = 7.0
    record["config"]["logger"]["every"] = 1000  # no part of a run's identity
    folder.record.write_text(json.dumps(record))
    with pytest.raises(ConfigError, match=r"is stale: .* other values of optimizer\.lr, training\.clip; move it away"):
        train_here(tiny)


def test_other_data_are_refused(tiny: list[str], train_here: Train, interrupted: RunFolder) -> None:
    path = Path(composed(tiny).dataset.valid)  # type: ignore[attr-defined]
    text = path.read_text()
    try:
        path.write_text(text.replace("w1 ", "w2 "))
        with pytest.raises(ConfigError, match="was trained on other data"):
            train_here(tiny)
    finally:
        path.write_text(text)
    assert record_of(train_here(tiny))["status"] == "finished"

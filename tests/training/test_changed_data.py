"""What the user's files hold decides which run it is; a run whose files have changed is refused, finished or not."""

import gzip
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from run_helpers import SMALL, Train, folder_of, record_of, write_texts

from launch.__main__ import main as launch_main
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id
from sparse_rnn.config.stored import differences
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.training.session import train

CLASSIFIER = ["model=lstm_classifier", "dataset=labelled_text", "dataset.length=5", "dataset.vocabulary=20"]
NOT_OF_TEXTS = ("training.valid_batch", "training.test_batch", "training.bptt")
REFUSAL = r"^{} was trained on other data \(their SHA-256 differs\): move it away to train from the start\.$"
Files = Callable[[Path], list[str]]


def texts(folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    return [*write_texts(folder), "logger=files", "training.epochs=2"]


def tables(folder: Path) -> list[str]:
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{'ham' if n % 2 else 'spam'},w{n % 7} w{n % 5} w1\n" for n in range(60)]
    for split in ("train", "valid", "test"):
        (folder / f"{split}.txt").write_text("".join(rows))
    small = [override for override in SMALL if not override.startswith(NOT_OF_TEXTS)]
    named = [f"dataset.{split}={folder}/{split}.txt" for split in ("train", "valid", "test")]
    return [*CLASSIFIER, *named, *small, "logger=files", "training.epochs=1"]


BOTH = pytest.mark.parametrize("files", [texts, tables])


def change(path: Path) -> str:
    """Write other words into a file; returns what it held."""
    before = path.read_text()
    path.write_text(before.replace("w1", "w2"))
    assert path.read_text() != before
    return before


def spelled(overrides: list[str], old: str, new: str) -> list[str]:
    return [override.replace(f"={old}/", f"={new}") for override in overrides]


def finished(folder: RunFolder, plan: str) -> bool:
    return bool(re.search(f"^  finished .* {folder.path.name} ", plan, re.MULTILINE))


def planned(overrides: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    """What `launch plan` prints of a run."""
    capsys.readouterr()
    monkeypatch.setattr("sys.argv", ["launch", "plan", "--sweep", "seed=1", *overrides])
    launch_main()
    return capsys.readouterr().out


@BOTH
@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_finished_run_on_changed_files_is_refused(
    files: Files,
    split: str,
    tmp_path: Path,
    root: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    overrides = files(tmp_path / "mine")
    train(compose_run(overrides), overrides)
    folder = folder_of(overrides, root)
    assert finished(folder, planned(overrides, capsys, monkeypatch))
    before = change(tmp_path / f"mine/{split}.txt")
    with pytest.raises(ConfigError, match=REFUSAL.format(folder.path)):
        train(compose_run(overrides), overrides)
    assert [path.name for path in root.glob("*-*")] == [folder.path.name]
    plan = planned(overrides, capsys, monkeypatch)
    assert "  stale " in plan
    assert f"{folder.path} was trained on other data of the same files" in plan
    folder.path.rename(tmp_path / "away")
    assert "  missing " in planned(overrides, capsys, monkeypatch)
    train(compose_run(overrides), overrides)
    assert record_of(folder_of(overrides, root))["status"] == "finished"
    (tmp_path / f"mine/{split}.txt").write_text(before)
    assert folder_of(overrides, root).path == folder.path


@BOTH
def test_files_of_the_same_names_in_another_folder_are_another_run(
    files: Files, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        overrides = spelled(files(tmp_path / name), f"{tmp_path}/{name}", "")
    change(tmp_path / "two/train.txt")
    folders = []
    for name in ("one", "two"):
        monkeypatch.chdir(tmp_path / name)
        train(compose_run(overrides), overrides)
        folders.append(folder_of(overrides, root))
    one, two = map(record_of, folders)
    assert folders[0].path != folders[1].path
    assert one["data_sha256"] != two["data_sha256"]
    assert one["digest"] != two["digest"]


@BOTH
def test_the_spelling_of_a_path_makes_no_other_run(
    files: Files, tmp_path: Path, root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    absolute = files(tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    (tmp_path / "link").symlink_to("mine")
    train(compose_run(absolute), absolute)
    folder = folder_of(absolute, root)
    shutil.copytree(tmp_path / "mine", tmp_path / "copy")
    for place in ("", "./", "../mine/", f"{tmp_path}/link/", f"{tmp_path}//mine/", f"{tmp_path}/copy/"):
        overrides = spelled(absolute, f"{tmp_path}/mine", place)
        assert run_id(compose_run(overrides)) == folder.path.name, place
        capsys.readouterr()
        train(compose_run(overrides), overrides)
        assert f"{folder.path} is finished" in capsys.readouterr().out
        assert finished(folder, planned(overrides, capsys, monkeypatch))


def test_compressed_tables_are_the_same_run(tmp_path: Path) -> None:
    overrides = tables(tmp_path / "mine")
    before = run_id(compose_run(overrides))
    for path in (tmp_path / "mine").glob("*.txt"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert run_id(compose_run(overrides)) == before


def test_which_file_is_which_split_counts(tmp_path: Path) -> None:
    overrides = texts(tmp_path / "mine")
    swapped = [
        o.replace("valid.txt", "x").replace("test.txt", "valid.txt").replace("/x", "/test.txt") for o in overrides
    ]
    assert run_id(compose_run(swapped)) != run_id(compose_run(overrides))


@BOTH
def test_a_run_id_needs_the_files(files: Files, tmp_path: Path, root: Path) -> None:
    overrides = files(tmp_path / "mine")
    train(compose_run(overrides), overrides)
    for path in (tmp_path / "mine").glob("*.txt"):
        path.unlink()
    with pytest.raises(ConfigError, match=r"^dataset\.train=.*/train\.txt does not exist\.$"):
        train(compose_run(overrides), overrides)


def test_a_finished_run_on_text_of_another_python_is_refused(
    root: Path, train_here: Train, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on any data whose id does not depend on what they hold."""
    overrides = ["dataset=pydoc", *SMALL, "training.epochs=1", "logger=files"]
    folder = train_here(overrides)
    text = folder.record.read_text()
    folder.record.write_text(text.replace(record_of(folder)["data_sha256"], "0" * 64))
    with pytest.raises(ConfigError, match=REFUSAL.format(folder.path)):
        train_here(overrides)
    plan = planned(overrides, capsys, monkeypatch)
    assert "  stale " in plan
    assert "its folder holds a run that was trained on other data" in plan


def test_recorded_spellings_do_not_differ(tmp_path: Path, root: Path, train_here: Train) -> None:
    overrides = texts(tmp_path / "mine")
    recorded = record_of(train_here(overrides))["config"]
    other = {**recorded, "dataset": {**recorded["dataset"], "train": "elsewhere.txt"}}
    assert differences(recorded, other) == []
    assert differences(recorded, {**recorded, "dataset": {**recorded["dataset"], "min_count": 2}}) == [
        "dataset.min_count"
    ]

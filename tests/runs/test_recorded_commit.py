"""The commit in a record is that of this code's own checkout, or null."""

import os
import subprocess
from pathlib import Path

import pytest

from sparse_rnn.runs import record

CODE = "sparse_rnn/runs/record.py"
NONE = {"commit": None, "modified": None}


def git(folder: Path, *arguments: str) -> str:
    own = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    who = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    done = subprocess.run(["git", *who, *arguments], cwd=folder, env=own, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def repository(folder: Path, *tracked: str) -> str:
    """Make the folder a repository that tracks these files; returns its commit."""
    git(folder, "init", "-q")
    git(folder, "add", "-f", *tracked)
    git(folder, "commit", "-q", "--allow-empty", "-m", "first")
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a copy of this code, as far as the commit needs it, inside another folder."""
    root = tmp_path / "outer" / "code"
    for name in (CODE, "conf/config.yaml", "pyproject.toml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("first\n")
    monkeypatch.setattr(record, "__file__", str(root / CODE))
    monkeypatch.setattr(record, "config_dir", lambda: root / "conf")
    return root


def test_of_a_checkout_it_is_the_commit_and_whether_tracked_files_were_modified(code: Path) -> None:
    repository(code.parent, ".")
    head = repository(code, ".")
    (code / "untracked").touch()
    assert record._commit() == {"commit": head, "modified": False}
    (code / "conf/config.yaml").write_text("second\n")
    assert record._commit() == {"commit": head, "modified": True}


def test_a_worktree_is_a_checkout(code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    head, other = repository(code, "."), tmp_path / "other"
    git(code, "worktree", "add", "-q", str(other))
    monkeypatch.setattr(record, "__file__", str(other / CODE))
    monkeypatch.setattr(record, "config_dir", lambda: other / "conf")
    assert record._commit() == {"commit": head, "modified": False}


def test_outside_of_a_repository_there_is_none(code: Path) -> None:
    assert record._commit() == NONE


def test_a_surrounding_repository_is_another_one(code: Path) -> None:
    repository(code.parent, ".")
    assert record._commit() == NONE
    (code / ".git").mkdir()  # no repository, so git looks further up
    assert record._commit() == NONE


def test_a_repository_that_does_not_track_this_code_is_another_one(code: Path) -> None:
    repository(code, "conf")
    assert record._commit() == NONE


def test_an_installed_package_has_none(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be installed into a folder that is the top of a repository, as by `pip install --target`."""
    repository(code, ".")
    monkeypatch.setattr(record, "config_dir", lambda: code / "sparse_rnn/conf")
    assert record._commit() == NONE


@pytest.mark.parametrize("checkout", [True, False])
def test_the_repository_of_git_dir_is_another_one(
    checkout: bool, code: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = {"commit": repository(code, "."), "modified": False} if checkout else NONE
    (other := tmp_path / "other").mkdir()
    repository(other)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(code))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / "index"))
    assert record._commit() == own


def test_without_git_there_is_none(code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository(code, ".")
    monkeypatch.setenv("PATH", "")
    assert record._commit() == NONE

"""Files that are complete or not there: their modes, and what they never overwrite."""

import os
from pathlib import Path

import pytest

from sparse_rnn.core.command_line import output_file
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.files import atomic, open_to_append, write_json, write_text
from sparse_rnn.core.reading import open_plain

SPECIAL = ("pipe", "link", "dangling link", "folder", "device")


def special(path: Path, kind: str) -> Path:
    """Something at `path` that is no plain file."""
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "device":
        path.symlink_to("/dev/null")
    else:
        target = path.with_name("victim")
        if kind == "link":
            target.write_text("precious")
        path.symlink_to(target)
    return path


@pytest.mark.parametrize("kind", SPECIAL)
def test_what_is_no_plain_file_is_not_replaced(kind: str, tmp_path: Path) -> None:
    path = special(tmp_path / "target", kind)
    before = path.lstat()
    with pytest.raises(OSError, match="target is no plain file"):
        write_text(path, "new")
    with pytest.raises(ConfigError, match=r"^out=\S+target is (no plain file|a folder): name "):
        output_file(str(path), Path("x"))
    assert (path.lstat().st_mode, path.lstat().st_ino) == (before.st_mode, before.st_ino)
    with pytest.raises(OSError, match="target is no plain file"):
        open_to_append(path)
    if kind in ("pipe", "folder", "device"):
        with pytest.raises(OSError, match=r"it is a (FIFO|folder|device), no file"):
            open_plain(path)
    assert {each.name for each in tmp_path.iterdir()} <= {"target", "victim"}
    assert kind != "link" or (tmp_path / "victim").read_text() == "precious"


def test_a_link_at_the_name_of_a_draft_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / ".text.tmp").symlink_to(victim)
    write_text(tmp_path / "text", "new")
    for name in (f".json.{os.getpid()}", f".json.{os.getpid()}.{os.getpid()}"):
        (tmp_path / name).symlink_to(victim)
    write_json(tmp_path / "json", {"new": 1})
    assert victim.read_text() == "precious"
    assert (tmp_path / "text").read_text() == "new"
    assert (tmp_path / "json").read_text() == '{"new": 1}\n'


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_modes_follow_the_umask(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        write_text(tmp_path / "text", "x")
        write_json(tmp_path / "json", {})
        open_to_append(tmp_path / "rows").close()
    finally:
        os.umask(before)
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o666 & ~mask}


def test_the_old_file_can_be_kept_and_stays_on_an_error(tmp_path: Path) -> None:
    path, previous = tmp_path / "file", tmp_path / "previous"
    for text in ("one", "two"):
        with atomic(path, previous) as draft:
            draft.write_text(text)
    assert (path.read_text(), previous.read_text()) == ("two", "one")
    with pytest.raises(ZeroDivisionError), atomic(path, previous) as draft:
        draft.write_text(str(1 / 0))
    assert (path.read_text(), previous.read_text()) == ("two", "one")
    assert sorted(tmp_path.iterdir()) == [path, previous]

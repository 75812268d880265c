"""Downloading with the real pooch from a server on this machine: mirrors, checks, and what is refused."""

import os
import threading
from pathlib import Path

import pytest
from local_mirror import ONE_EACH, TEXTS, TRAIN, WHOLE, Mirror, closed_address, contents, serving
from refusals import refusal

from sparse_rnn.data import transfer
from sparse_rnn.data.language import corpora
from sparse_rnn.data.language.corpora import PTB


def test_fetches_once_and_loads(mirror: Mirror, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    paths = PTB().fetch()
    assert paths == {name: folder / name for name in ("train.txt", "valid.txt", "test.txt")}
    assert contents(folder) == WHOLE
    corpus = PTB().load()
    assert {split: tokens.numel() for split, tokens in corpus.splits.items()} == dict.fromkeys(corpus.splits, 6 * 4000)
    assert mirror.asked == ONE_EACH
    assert capfd.readouterr() == ("", "")


def test_files_already_there_need_no_network(folder: Path, mirror: Mirror) -> None:
    folder.mkdir(parents=True)
    for name, text in WHOLE.items():
        (folder / name).write_bytes(text)
    PTB().load()
    assert mirror.asked == []
    assert contents(folder) == WHOLE
    (folder / "valid.txt").unlink()
    PTB().fetch()
    assert mirror.asked == [("ptb.valid.txt", None)]


def test_shows_a_bar_on_a_terminal(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    PTB().fetch()
    out, err = capsys.readouterr()
    assert out == ""
    for name, text in WHOLE.items():
        assert name in err
        assert f"{len(text) / 1000:.1f}" in err


def test_a_file_already_there_with_other_content_is_refused_and_left_alone(folder: Path, mirror: Mirror) -> None:
    folder.mkdir(parents=True)
    (folder / "valid.txt").write_text("my notes\n")
    sentence = refusal(PTB())
    assert str(folder / "valid.txt") in sentence
    assert "remove it" in sentence
    assert contents(folder) == {"valid.txt": b"my notes\n"}
    assert mirror.asked == []


def test_a_folder_in_the_place_of_a_file_is_refused(folder: Path) -> None:
    (folder / "valid.txt").mkdir(parents=True)
    assert str(folder / "valid.txt") in refusal(PTB())


def test_wrong_content_is_not_kept(folder: Path, mirror: Mirror) -> None:
    mirror.texts["ptb.train.txt"] = b"<html>Please log in to this network</html>"
    assert "the file that came has another SHA-256" in refusal(PTB())
    assert contents(folder) == {}


def test_a_short_file_is_not_kept(folder: Path, mirror: Mirror) -> None:
    mirror.texts["ptb.valid.txt"] = TEXTS["ptb.valid.txt"][:-1]
    sentence = refusal(PTB())
    assert "the file that came has another SHA-256" in sentence
    assert "train.txt" not in sentence, "only what is missing is asked for"
    assert contents(folder) == {"train.txt": TRAIN}


def test_without_any_mirror_says_where_to_put_what(
    folder: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed, other = closed_address(), mirror.url + "/nothing"
    monkeypatch.setattr(corpora, "PTB_MIRRORS", (closed, other))
    sentence = refusal(PTB())
    assert "(no connection; the server answered 404)" in sentence
    for name in WHOLE:
        assert f"{name} (from {closed}/ptb.{name})" in sentence
    assert f"into {folder}, or use dataset=pydoc, which needs nothing" in sentence


@pytest.mark.parametrize("failure", ["404", "closed", "silent", "wrong", "broken off"])
def test_the_second_mirror_is_used_when_the_first_fails(
    failure: str, folder: Path, mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    with serving() as first:
        url = first.url
        if failure == "404":
            first.texts = {}
        elif failure == "closed":
            url = closed_address()
        elif failure == "silent":
            monkeypatch.setattr(transfer, "TIMEOUT", (0.2, 0.2))
            first.before = lambda: released.wait(10)
        elif failure == "wrong":
            first.texts = dict.fromkeys(TEXTS, b"something else")
        else:
            first.cut = dict.fromkeys(TEXTS, len(TRAIN) // 2)
        monkeypatch.setattr(corpora, "PTB_MIRRORS", (url, mirror.url))
        PTB().fetch()
        released.set()
    assert mirror.asked == ONE_EACH, "nothing is resumed from what another mirror sent"
    assert len(first.asked) == (0 if failure == "closed" else 3)
    assert contents(folder) == WHOLE


def test_a_data_folder_under_a_file_is_named(folder: Path, mirror: Mirror) -> None:
    folder.parent.write_text("not a folder")
    sentence = refusal(PTB())
    assert f"The data folder {folder} cannot be used: Not a directory." in sentence
    assert mirror.asked == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_data_folder_is_named(folder: Path, mirror: Mirror) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o555)
    try:
        assert f"The data folder {folder} cannot be used: Permission denied." in refusal(PTB())
    finally:
        folder.chmod(0o755)
    assert mirror.asked == []


def test_a_full_disk_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: transfer.ResumingDownloader, *args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(transfer.ResumingDownloader, "_save", full)
    assert refusal(PTB()) == f"The data folder {folder} cannot be used: No space left on device."

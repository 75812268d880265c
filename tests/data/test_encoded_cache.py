"""The cache of encoded texts: hits, damage, changed sources, several processes, folders that cannot be used."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sparse_rnn.core import files
from sparse_rnn.data.corpus import SPLITS
from sparse_rnn.data.labelled.own import LabelledText, PyDocTopics
from sparse_rnn.data.labelled.texts import LabelledTexts

TRAIN = "".join(f"{'up' if i % 3 else 'down'},word{i % 7} and word{i}\n" for i in range(40))
TEST = "up,word1\ndown,word2 word3\n"


@pytest.fixture
def dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LabelledText:
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path / "data"))
    (tmp_path / "train.csv").write_text(TRAIN)
    (tmp_path / "test.csv").write_text(TEST)
    return LabelledText(train=str(tmp_path / "train.csv"), test=str(tmp_path / "test.csv"), length=5)


def same(one: LabelledTexts, other: LabelledTexts) -> bool:
    facts = [(x.classes, x.vocabulary, x.words, x.sha256) for x in (one, other)]
    return facts[0] == facts[1] and all(
        one.splits[split].tokens.equal(other.splits[split].tokens)
        and one.splits[split].labels.equal(other.splits[split].labels)
        and one.splits[split].tokens.dtype == other.splits[split].tokens.dtype
        for split in SPLITS
    )


def cache_file(dataset: LabelledText) -> Path:
    (path,) = dataset.folder.glob(".encoded/*.safetensors")
    return path


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A mark for each time that texts are encoded."""
    marks: list[str] = []
    encode = LabelledText.encode

    def marked(self: LabelledText) -> LabelledTexts:
        marks.append(self.name)
        return encode(self)

    monkeypatch.setattr(LabelledText, "encode", marked)
    return marks


def test_a_second_load_reads_no_source(dataset: LabelledText, monkeypatch: pytest.MonkeyPatch) -> None:
    first = dataset.load()

    def unread(self: LabelledText) -> None:
        raise AssertionError("the source was read")

    monkeypatch.setattr(LabelledText, "examples", unread)
    assert same(dataset.load(), first)
    assert dataset.sizes() == (20_000, 2)
    assert [path.name for path in (dataset.folder / ".encoded").iterdir() if path.suffix != ".lock"] == [
        cache_file(dataset).name
    ], "and nothing else is left"


DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    "cut": lambda content: content[:-10],
    "empty": lambda content: b"",
    "other": lambda content: b"not the file that it was\n" * 50,
    "one bit": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "header": lambda content: content.replace(b"labelled_texts", b"labelled_tests"),
    "classes": lambda content: content.replace(b'\\"down\\"', b'\\"town\\"'),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_made_anew(
    damage: Callable[[bytes], bytes], dataset: LabelledText, encoded: list[str]
) -> None:
    first = dataset.load()
    path = cache_file(dataset)
    whole = path.read_bytes()
    assert damage(whole) != whole
    path.write_bytes(damage(whole))
    assert same(dataset.load(), first)
    assert same(dataset.load(), first)
    assert len(encoded) == 2


def test_a_changed_source_is_read_again(dataset: LabelledText, encoded: list[str]) -> None:
    first = dataset.load()
    source = Path(dataset.train)
    times = source.stat().st_atime_ns, source.stat().st_mtime_ns
    source.write_text(TRAIN.replace("word1", "word9"))
    os.utime(source, ns=(times[0], times[1] + 1))
    changed = dataset.load()
    assert changed.sha256 != first.sha256
    source.write_text(TRAIN + "up,more\n")
    os.utime(source, ns=times)
    assert dataset.load().counts["train"] == first.counts["train"] + 1, "the same time, another size"
    assert len(encoded) == 3


def test_every_setting_has_its_file(dataset: LabelledText, encoded: list[str]) -> None:
    dataset.load()
    dataset.length = 6
    assert dataset.load().splits["train"].tokens.shape[1] == 6
    dataset.vocabulary = 10
    assert dataset.load().words == 9
    dataset.valid_share = 0.5
    assert dataset.load().counts["valid"] == 20
    assert len(list(dataset.folder.glob(".encoded/*.safetensors"))) == len(encoded) == 4


def test_a_folder_that_cannot_be_used_means_no_cache(dataset: LabelledText, encoded: list[str]) -> None:
    dataset.folder.parent.write_text("a file in the place of the folder")
    assert same(dataset.load(), dataset.load())
    assert len(encoded) == 2


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_means_no_cache(dataset: LabelledText, encoded: list[str]) -> None:
    dataset.folder.mkdir(parents=True)
    dataset.folder.chmod(0o555)
    try:
        assert same(dataset.load(), dataset.load())
    finally:
        dataset.folder.chmod(0o755)
    assert len(encoded) == 2


def test_a_full_disk_means_no_cache(dataset: LabelledText, encoded: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        first = dataset.load()
    assert not [path for path in (dataset.folder / ".encoded").iterdir() if path.suffix != ".lock"]
    assert same(dataset.load(), first)
    assert len(encoded) == 2


def test_what_needs_no_files_keeps_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path / "data"))
    PyDocTopics().load()
    assert not list(tmp_path.iterdir())


LOAD = """
import sys, time
from pathlib import Path
from sparse_rnn.data.labelled.own import LabelledText

train, test, marks = sys.argv[1:]
encode = LabelledText.encode

def slow(self):
    (Path(marks) / f"encoding{time.time_ns()}").touch()
    while len(list(Path(marks).glob("asking*"))) < 2:
        time.sleep(0.01)
    time.sleep(0.3)
    return encode(self)

LabelledText.encode = slow
(Path(marks) / f"asking{time.time_ns()}").touch()
print(LabelledText(train=train, test=test, length=5).load().sha256)
"""


def test_of_two_processes_one_encodes(dataset: LabelledText, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    arguments = [sys.executable, "-c", LOAD, dataset.train, dataset.test, str(marks)]
    processes = [subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0]
    assert printed == {dataset.load().sha256}
    assert len(list(marks.glob("encoding*"))) == 1

"""dataset=imdb: the folder of reviews, the archive, and their errors; the real ones where they are."""

import os
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest
from labelled_files import label_counts, put
from refusals import refusal

from sparse_rnn.data.labelled import acl_imdb, published
from sparse_rnn.data.labelled.published import IMDB

REAL = Path(os.environ.get("SPARSE_RNN_DATA", "-"))


@pytest.fixture
def four_reviews(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(acl_imdb, "REVIEWS", 4)


def write_reviews(folder: Path) -> None:
    for split in ("train", "test"):
        for label in ("pos", "neg"):
            for number in range(4):
                text = f"{split} {label} caf\u00e9<br /><br />number{number}"
                put(folder / "aclImdb" / split / label / f"{number * 5}_{number + 1}.txt", text)
        put(folder / "aclImdb" / split / "unsup" / "0_0.txt", "nobody knows")
        put(folder / "aclImdb" / split / "urls_pos.txt", "http://")
        put(folder / "aclImdb" / split / "pos" / "notes.txt", "mine")


def pack_reviews(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder as the archive, in an order of its own."""
    archive = folder / "aclImdb_v1.tar.gz"
    with tarfile.open(archive, "w:gz") as packed:
        for path in sorted(folder.glob("aclImdb/**/*.txt"), key=lambda path: (path.name[::-1], path)):
            packed.add(path, str(path.relative_to(folder)))
    files = {archive.name: (archive.name, sha256(archive.read_bytes()).hexdigest())}
    monkeypatch.setattr(published, "IMDB_FILES", files)
    return archive


@pytest.mark.usefixtures("four_reviews")
def test_imdb_has_both_classes_from_the_start(root: Path) -> None:
    write_reviews(root / "imdb")
    texts = IMDB(length=4).load()
    assert texts.classes == ("negative", "positive")
    assert texts.counts == {"train": 7, "valid": 1, "test": 8}
    assert texts.splits["test"].labels.tolist() == [0, 1, 0, 1, 0, 1, 0, 1]
    assert label_counts(texts, "train", "valid") == [4, 4]
    assert texts.words == len({"train", "pos", "neg", "caf\u00e9", "br", "number0", "number1", "number2", "number3"})


@pytest.mark.usefixtures("four_reviews")
def test_imdb_is_the_same_from_the_archive(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_reviews(root / "imdb")
    unpacked = IMDB().load()
    archive = pack_reviews(root / "imdb", monkeypatch)
    (root / "imdb" / "aclImdb").rename(root / "elsewhere")
    assert IMDB().fetch() == {archive.name: archive}
    packed = IMDB().load()
    assert packed.sha256 == unpacked.sha256
    assert packed.splits["train"].tokens.equal(unpacked.splits["train"].tokens)
    assert not (root / "imdb" / "aclImdb").exists()
    archive.write_bytes(archive.read_bytes()[:-1])
    assert f"{archive} is not the published imdb file (by its SHA-256): remove it, or use dataset=labelled_text" in (
        refusal(IMDB())
    )


@pytest.mark.usefixtures("four_reviews")
def test_imdb_with_another_number_of_reviews_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_reviews(root / "imdb")
    folder = root / "imdb" / "aclImdb" / "test" / "neg"
    (folder / "5_2.txt").unlink()
    rest = "has 3 reviews instead of the published 4: remove the folder or the archive and get it again, or use "
    rest += "dataset=labelled_text for texts of your own."
    assert refusal(IMDB()) == f"{folder} {rest}"
    archive = pack_reviews(root / "imdb", monkeypatch)
    (root / "imdb" / "aclImdb").rename(root / "elsewhere")
    assert refusal(IMDB()) == f"{archive}:aclImdb/test/neg {rest}"


@pytest.mark.usefixtures("four_reviews")
def test_imdb_without_one_of_its_folders_is_refused(root: Path) -> None:
    write_reviews(root / "imdb")
    (root / "imdb" / "aclImdb" / "train").rename(root / "elsewhere")
    missing = root / "imdb" / "aclImdb" / "train" / "neg"
    assert refusal(IMDB()) == f"{missing} cannot be read: No such file or directory."


@pytest.mark.usefixtures("four_reviews")
def test_imdb_notices_a_changed_review(root: Path) -> None:
    write_reviews(root / "imdb")
    before = IMDB().load().sha256
    put(root / "imdb" / "aclImdb" / "test" / "neg" / "5_2.txt", "a longer text than it was, by far")
    assert IMDB().load().sha256 != before


@pytest.mark.usefixtures("four_reviews")
def test_imdb_reviews_in_another_encoding_are_refused(root: Path) -> None:
    write_reviews(root / "imdb")
    path = put(root / "imdb" / "aclImdb" / "test" / "neg" / "5_2.txt", "caf\u00e9".encode("latin-1"))
    assert refusal(IMDB()).startswith(f"{path}, line 1, is not UTF-8 text (byte 4 of the line is 0xE9): convert it")


@pytest.mark.skipif(not (REAL / "imdb").is_dir(), reason="no imdb folder in $SPARSE_RNN_DATA")
def test_the_movie_reviews_are_as_published() -> None:
    texts = IMDB().load()
    assert texts.counts == {"train": 22_500, "valid": 2_500, "test": 25_000}
    assert label_counts(texts, "train", "valid") == label_counts(texts, "test") == [12_500, 12_500]
    assert texts.words == 19_999

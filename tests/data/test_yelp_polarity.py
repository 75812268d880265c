"""dataset=yelp_polarity: escaped line breaks, three ways of packing, and the number of reviews."""

import gzip
import tarfile
from hashlib import sha256
from pathlib import Path

import pytest
from labelled_files import put, table
from refusals import refusal

from sparse_rnn.data.labelled import published
from sparse_rnn.data.labelled.published import YelpPolarity

YELP = {
    "train": table(*((1 + i % 2, f'Said ""word{i}"".\\nNext') for i in range(20))),
    "test": table((2, "next")),
}


@pytest.fixture
def few_reviews(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(YelpPolarity, "counts", {"train": 20, "test": 1})


@pytest.mark.usefixtures("few_reviews")
def test_yelp_polarity_undoes_the_escape_of_line_breaks(root: Path) -> None:
    for split, text in YELP.items():
        put(root / "yelp_polarity" / f"{split}.csv", text)
    texts = YelpPolarity(length=3).load()
    assert texts.classes == ("negative", "positive")
    assert texts.counts == {"train": 18, "valid": 2, "test": 1}
    assert texts.words == 20, "said, next, and 18 others"
    assert texts.splits["test"].tokens.tolist() == [[0, 0, 2]], "next, after said"


@pytest.mark.usefixtures("few_reviews")
def test_yelp_polarity_is_the_same_however_it_is_packed(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = root / "yelp_polarity"
    unpacked = [put(folder / f"{split}.csv", text) for split, text in YELP.items()]
    hashes = [YelpPolarity().load().sha256]
    archive = folder / "yelp_review_polarity_csv.tgz"
    with tarfile.open(archive, "w:gz") as stream:
        for path in unpacked:
            stream.add(path, f"yelp_review_polarity_csv/{path.name}")
    files = {archive.name: (archive.name, sha256(archive.read_bytes()).hexdigest())}
    monkeypatch.setattr(published, "YELP_POLARITY_FILES", files)
    for path in unpacked:
        put(folder / f"{path.name}.gz", gzip.compress(path.read_bytes()))
        path.unlink()
    assert set(YelpPolarity().fetch()) == {"train.csv.gz", "test.csv.gz"}
    hashes.append(YelpPolarity().load().sha256)
    for path in folder.glob("*.csv.gz"):
        path.unlink()
    assert YelpPolarity().fetch() == {archive.name: archive}
    hashes.append(YelpPolarity().load().sha256)
    assert len(set(hashes)) == 1
    assert len(list(folder.glob(".encoded/*.safetensors"))) == 3, "each was read"


@pytest.mark.usefixtures("few_reviews")
def test_yelp_polarity_with_another_number_of_reviews_is_refused(root: Path) -> None:
    put(root / "yelp_polarity" / "train.csv", YELP["train"] + "1,more\n")
    path = put(root / "yelp_polarity" / "test.csv", YELP["test"]).with_name("train.csv")
    sentence = refusal(YelpPolarity())
    assert sentence.startswith(f"{path} has 21 reviews instead of the published 20: get it again, or use ")

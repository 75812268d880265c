"""The labelled data sets by name: their formats, classes, splits and errors; the real ones where they are."""

import csv
import gzip
import io
import json
import os
import tarfile
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from refusals import refusal

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import choices, lookup
from sparse_rnn.data.corpus import SPLITS
from sparse_rnn.data.labelled import acl_imdb
from sparse_rnn.data.labelled import published as classification
from sparse_rnn.data.labelled.dataset import LabelledDataset
from sparse_rnn.data.labelled.published import IMDB, AGNews, AmazonFineFood, SandersTwitter, Yelp2018, YelpPolarity
from sparse_rnn.data.labelled.texts import LabelledTexts, _drawn_test

REAL = Path(os.environ.get("SPARSE_RNN_DATA", "-"))
PUBLISHED: Mapping[str, tuple[int, int, int]] = {  # classes, training and test texts
    "sanders_twitter": (4, 4_410, 1_103),
    "imdb": (2, 25_000, 25_000),
    "yelp2018": (5, 120_000, 30_000),
    "ag_news": (4, 120_000, 7_600),
    "amazon_fine_food": (5, 454_763, 113_691),
    "yelp_polarity": (2, 560_000, 38_000),
}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder, and no network."""
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path / "data"))
    for proxy in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(proxy, "http://127.0.0.1:9")
    return tmp_path / "data"


def put(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def table(*rows: tuple[object, ...]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def label_counts(texts: LabelledTexts, *splits: str) -> list[int]:
    labels = torch.cat([texts.splits[split].labels for split in splits or SPLITS])
    counts: list[int] = torch.bincount(labels, minlength=len(texts.classes)).tolist()
    return counts


@pytest.mark.parametrize("name", PUBLISHED)
def test_sizes_are_known_without_data(name: str, root: Path) -> None:
    dataset = lookup("dataset", name)()
    assert dataset.name == name
    assert dataset.task == "text_classification"
    assert dataset.sizes() == (20_000, PUBLISHED[name][0])
    assert not root.exists()


@pytest.mark.parametrize("name", ["sanders_twitter", "yelp2018", "amazon_fine_food"])
def test_complete_files_are_divided_as_in_the_paper(name: str) -> None:
    _, train, test = PUBLISHED[name]
    drawn = _drawn_test(np.arange(train + test), lookup("dataset", name).test_share)
    assert [len(rows) for rows in drawn] == [train, test]
    assert len(set(np.concatenate(drawn).tolist())) == train + test


@pytest.mark.parametrize("name", [*PUBLISHED, "pydoc_topics"])
def test_settings_out_of_range_are_refused_by_the_command_line(name: str) -> None:
    for override, sentence in {
        "vocabulary=1": r"dataset\.vocabulary=1 must be at least 2\.",
        "length=0": r"dataset\.length=0 must be at least 1\.",
        "valid_share=0": r"dataset\.valid_share=0\.0 must be between 0 and 1, both excluded\.",
        "valid_share=1": r"dataset\.valid_share=1\.0 must be between 0 and 1, both excluded\.",
    }.items():
        with pytest.raises(ConfigError, match=f"^{sentence}$"):
            compose_run(["model=lstm_classifier", f"dataset={name}", f"dataset.{override}"])


@pytest.mark.parametrize("name", ["sanders_twitter", "yelp2018", "amazon_fine_food"])
def test_what_the_user_must_supply_is_named(name: str, root: Path) -> None:
    files, page = {
        "sanders_twitter": ("full-corpus.csv", "http://www.sananalytics.com/lab/twitter-sentiment"),
        "yelp2018": ("yelp_academic_dataset_review.json", "https://www.yelp.com/dataset"),
        "amazon_fine_food": ("Reviews.csv or finefoods.txt", "https://snap.stanford.edu/data/web-FineFoods.html"),
    }[name]
    sentence = refusal(lookup("dataset", name)())
    assert sentence.startswith(f"dataset={name} needs {files} in {root}/{name}: get ")
    assert page in sentence
    assert sentence.endswith(", or use dataset=pydoc_topics, which needs nothing.")


@pytest.mark.parametrize("name", ["imdb", "ag_news", "yelp_polarity"])
def test_what_cannot_be_downloaded_is_named(name: str, root: Path) -> None:
    sentence = refusal(lookup("dataset", name)())
    assert sentence.startswith(f"{name} cannot be downloaded (no connection): put ")
    assert sentence.endswith(f"into {root}/{name}, or use dataset=pydoc_topics, which needs nothing.")


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
    monkeypatch.setattr(classification, "IMDB_FILES", files)
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
    assert refusal(IMDB()) == f"{path}, line 1, is not UTF-8 text: convert it first."


NEWS = [(1 + i % 4, f"Title {i}", f"A\\nation's word{i}") for i in range(20)]


def write_news(folder: Path, monkeypatch: pytest.MonkeyPatch, train: str) -> None:
    texts = {"train.csv": train, "test.csv": table(*NEWS[:3])}
    for name, text in texts.items():
        put(folder / name, text)
    files = {name: (name, sha256(text.encode()).hexdigest()) for name, text in texts.items()}
    monkeypatch.setattr(classification, "AG_NEWS_FILES", files)


def test_ag_news_joins_title_and_description(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_news(root / "ag_news", monkeypatch, table(*NEWS))
    texts = AGNews(length=6).load()
    assert texts.classes == ("World", "Sports", "Business", "Sci/Tech")
    assert texts.counts == {"train": 18, "valid": 2, "test": 3}
    assert texts.splits["test"].labels.tolist() == [0, 1, 2]
    assert (texts.splits["test"].tokens[:, -5:] > 0).all(), "title, number, a, nation's, word"
    assert (texts.splits["test"].tokens[:, 0] == 0).all()


def test_ag_news_with_other_content_or_malformed_is_refused(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_news(root / "ag_news", monkeypatch, table(*NEWS) + "5,a,b\n")
    path = root / "ag_news" / "train.csv"
    assert f"{path}, line 21, has the label '5' instead of one of 1, 2, 3, 4: " in refusal(AGNews())
    write_news(root / "ag_news", monkeypatch, table(*NEWS) + "2,a\n")
    assert f"{path}, line 21, has 2 columns instead of 3: " in refusal(AGNews())
    put(path, table(*NEWS))
    assert f"{path} is not the published ag_news file (by its SHA-256)" in refusal(AGNews())


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
    monkeypatch.setattr(classification, "YELP_POLARITY_FILES", files)
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


def tweets(count: int) -> str:
    sentiments = ["positive", "negative", "neutral", "neutral", "irrelevant"]
    rows = [("apple", sentiments[i * 5 // count], i, "Tue", f"Tweet {i},\nover lines") for i in range(count)]
    return table(("Topic", "Sentiment", "TweetId", "TweetDate", "TweetText"), *rows)


def test_sanders_twitter_has_four_sentiments(root: Path) -> None:
    put(root / "sanders_twitter" / "full-corpus.csv", b"\xef\xbb\xbf" + tweets(100).encode())
    texts = SandersTwitter().load()
    assert texts.classes == ("irrelevant", "negative", "neutral", "positive")
    assert texts.counts == {"train": 72, "valid": 8, "test": 20}
    assert label_counts(texts) == [20, 20, 40, 20]
    assert min(label_counts(texts, "test")) > 0, "though the file is sorted"


def test_sanders_twitter_with_an_unknown_sentiment_is_refused(root: Path) -> None:
    path = put(root / "sanders_twitter" / "full-corpus.csv", tweets(10) + "apple,angry,1,Tue,text\n")
    known = "irrelevant, negative, neutral, positive"
    assert refusal(SandersTwitter()).startswith(f"{path}, line 22, has the label 'angry' instead of one of {known}: ")


def reviews(count: int) -> list[tuple[int, str]]:
    return [(1 + i % 5, f"Text number {i}, with <br />two lines") for i in range(count)]


def json_lines(count: int) -> str:
    return "".join(json.dumps({"review_id": "x", "stars": float(s), "text": t}) + "\n" for s, t in reviews(count))


@pytest.mark.parametrize("packed", [False, True])
def test_yelp2018_takes_the_first_reviews(packed: bool, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Yelp2018, "published", 50)
    content = (json_lines(50) + "not JSON, and never read\n").encode()
    name = "yelp_academic_dataset_review.json"
    put(root / "yelp2018" / (f"{name}.gz" if packed else name), gzip.compress(content) if packed else content)
    texts = Yelp2018().load()
    assert texts.classes == ("1 star", "2 stars", "3 stars", "4 stars", "5 stars")
    assert texts.counts == {"train": 36, "valid": 4, "test": 10}
    assert label_counts(texts) == [10] * 5


def test_yelp2018_with_broken_json_is_refused(root: Path) -> None:
    path = put(root / "yelp2018" / "yelp_academic_dataset_review.json", json_lines(20)[:-10])
    assert refusal(Yelp2018()).startswith(f"{path}, line 20, is not JSON (Unterminated string")


def test_both_editions_of_amazon_fine_food_are_the_same(root: Path) -> None:
    found = reviews(50)
    columns = ("Id", "ProductId", "Score", "Time", "Summary", "Text")
    kaggle = put(
        root / "amazon_fine_food" / "Reviews.csv",
        table(columns, *((i, "B1", score, 0, "x", text) for i, (score, text) in enumerate(found))),
    )
    first = AmazonFineFood().load()
    assert first.counts == {"train": 36, "valid": 4, "test": 10}
    assert label_counts(first) == [10] * 5
    kaggle.unlink()
    snap = "".join(f"product/productId: B1\nreview/score: {s}.0\nreview/text: {t}\n\n" for s, t in found)
    put(root / "amazon_fine_food" / "finefoods.txt.gz", gzip.compress(snap.encode("latin-1")))
    assert AmazonFineFood().load().sha256 == first.sha256


def test_amazon_fine_food_with_a_score_out_of_range_is_refused(root: Path) -> None:
    path = put(root / "amazon_fine_food" / "Reviews.csv", "Id,Score,Text\n1,5,a\n2,6,b\n")
    assert refusal(AmazonFineFood()).startswith(f"{path}, line 3, has the label '6' instead of one of 1, 2, 3, 4, 5: ")


def test_every_labelled_data_set_has_a_configuration() -> None:
    names = [name for name in choices("dataset") if issubclass(lookup("dataset", name), LabelledDataset)]
    assert sorted(names) == sorted([*PUBLISHED, "labelled_text", "pydoc_topics"])
    for name in names:
        files = ["dataset.train=x", "dataset.test=x"] if name == "labelled_text" else []
        run = compose_run(["model=lstm_classifier", f"dataset={name}", *files])
        assert type(run.dataset) is lookup("dataset", name)


@pytest.mark.skipif(not (REAL / "imdb").is_dir(), reason="no imdb folder in $SPARSE_RNN_DATA")
def test_the_movie_reviews_are_as_published() -> None:
    texts = IMDB().load()
    assert texts.counts == {"train": 22_500, "valid": 2_500, "test": 25_000}
    assert label_counts(texts, "train", "valid") == label_counts(texts, "test") == [12_500, 12_500]
    assert texts.words == 19_999


@pytest.mark.skipif(not (REAL / "sanders_twitter").is_dir(), reason="no sanders_twitter folder in $SPARSE_RNN_DATA")
def test_the_tweets_are_those_that_are_left_of_5513() -> None:
    texts = SandersTwitter().load()
    total = sum(texts.counts.values())
    assert 5_000 < total <= 5_513
    assert texts.counts["test"] == round(total * 1_103 / 5_513)
    shares = [count / total for count in label_counts(texts)]
    assert shares == pytest.approx([0.33, 0.11, 0.46, 0.10], abs=0.01)


@pytest.mark.skipif(not (REAL / "ag_news" / "test.csv").is_file(), reason="no ag_news folder in $SPARSE_RNN_DATA")
def test_the_news_to_test_on_are_as_published(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = table(*NEWS)
    put(root / "ag_news" / "train.csv", train)
    put(root / "ag_news" / "test.csv", (REAL / "ag_news" / "test.csv").read_bytes())
    files = {**classification.AG_NEWS_FILES, "train.csv": ("train.csv", sha256(train.encode()).hexdigest())}
    monkeypatch.setattr(classification, "AG_NEWS_FILES", files)
    assert label_counts(AGNews().load(), "test") == [1_900] * 4

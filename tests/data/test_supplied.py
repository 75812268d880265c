"""Data sets whose files the user supplies: tweets, and reviews of Yelp and Amazon; the real ones where they are."""

import gzip
import json
import os
from pathlib import Path

import pytest
from labelled_files import label_counts, put, table
from refusals import refusal

from sparse_rnn.data.labelled.published import AmazonFineFood, SandersTwitter, Yelp2018

REAL = Path(os.environ.get("SPARSE_RNN_DATA", "-"))


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


@pytest.mark.skipif(not (REAL / "sanders_twitter").is_dir(), reason="no sanders_twitter folder in $SPARSE_RNN_DATA")
def test_the_tweets_are_those_that_are_left_of_5513() -> None:
    texts = SandersTwitter().load()
    total = sum(texts.counts.values())
    assert 5_000 < total <= 5_513
    assert texts.counts["test"] == round(total * 1_103 / 5_513)
    shares = [count / total for count in label_counts(texts)]
    assert shares == pytest.approx([0.33, 0.11, 0.46, 0.10], abs=0.01)


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

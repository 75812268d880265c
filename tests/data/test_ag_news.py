"""dataset=ag_news: two files of comma-separated values; the real ones where they are."""

import os
from hashlib import sha256
from pathlib import Path

import pytest
from labelled_files import label_counts, put, table
from refusals import refusal

from sparse_rnn.data.labelled import published
from sparse_rnn.data.labelled.published import AGNews

REAL = Path(os.environ.get("SPARSE_RNN_DATA", "-"))
NEWS = [(1 + i % 4, f"Title {i}", f"A\\nation's word{i}") for i in range(20)]


def write_news(folder: Path, monkeypatch: pytest.MonkeyPatch, train: str) -> None:
    texts = {"train.csv": train, "test.csv": table(*NEWS[:3])}
    for name, text in texts.items():
        put(folder / name, text)
    files = {name: (name, sha256(text.encode()).hexdigest()) for name, text in texts.items()}
    monkeypatch.setattr(published, "AG_NEWS_FILES", files)


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


@pytest.mark.skipif(not (REAL / "ag_news" / "test.csv").is_file(), reason="no ag_news folder in $SPARSE_RNN_DATA")
def test_the_news_to_test_on_are_as_published(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = table(*NEWS)
    put(root / "ag_news" / "train.csv", train)
    put(root / "ag_news" / "test.csv", (REAL / "ag_news" / "test.csv").read_bytes())
    files = {**published.AG_NEWS_FILES, "train.csv": ("train.csv", sha256(train.encode()).hexdigest())}
    monkeypatch.setattr(published, "AG_NEWS_FILES", files)
    assert label_counts(AGNews().load(), "test") == [1_900] * 4

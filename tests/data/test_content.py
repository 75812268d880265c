"""What a data set holds is known again without reading it, until a file of it changes."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from labelled_files import put

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import lookup
from sparse_rnn.data.content import CHANGED, content, remembered
from sparse_rnn.data.labelled.own import LabelledText, PyDocTopics
from sparse_rnn.data.labelled.published import AmazonFineFood, SandersTwitter
from sparse_rnn.data.language.corpora import PyDoc, Text

TWEETS = "Topic,Sentiment,TweetId,TweetDate,TweetText\n" + "".join(
    f"a,{label},{n},now,{label} word{n}\n" for n, label in enumerate(("positive", "negative", "neutral") * 9)
)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the data sets that were read, in order."""
    done: list[str] = []
    for kind in (Text, LabelledText, SandersTwitter):

        def noted(self: Any, original: Callable[[Any], Any] = kind.load) -> Any:
            done.append(self.name)
            return original(self)

        monkeypatch.setattr(kind, "load", noted)
    return done


def text(folder: Path, **settings: Any) -> Text:
    put(folder / "a.txt", "the cat sat\n" * 3)
    return Text(train=str(folder / "a.txt"), valid=str(folder / "a.txt"), test=str(folder / "a.txt"), **settings)


def labelled(folder: Path) -> LabelledText:
    put(folder / "a.csv", "ham,the cat\nspam,a dog\n" * 9)
    return LabelledText(train=str(folder / "a.csv"), test=str(folder / "a.csv"))


def tweets(folder: Path) -> SandersTwitter:
    put(folder / "data/sanders_twitter/full-corpus.csv", TWEETS)
    return SandersTwitter()


MADE = {"text": text, "labelled_text": labelled, "sanders_twitter": tweets}


@pytest.mark.parametrize("name", MADE)
def test_it_is_read_once_and_again_after_a_change(name: str, root: Path, tmp_path: Path, reads: list[str]) -> None:
    root.mkdir()
    dataset: Any = MADE[name](tmp_path)
    assert remembered(asdict(dataset)) is None
    first = content(dataset)
    assert first == dataset.load().sha256
    assert len(reads) == 2
    assert content(dataset) == remembered(asdict(dataset)) == first
    assert len(reads) == 2
    [path] = dataset.content_sources()[:1]
    before = path.read_bytes(), path.stat()
    path.write_bytes(before[0].replace(b"the cat", b"one cat").replace(b"word1", b"word2"))
    os.utime(path, ns=(before[1].st_atime_ns, before[1].st_mtime_ns))  # size and time are as they were
    assert remembered(asdict(dataset)) == CHANGED
    second = content(dataset)
    assert second == remembered(asdict(dataset)) == dataset.load().sha256 != first
    path.write_bytes(before[0])
    assert content(dataset) == first


def test_a_damaged_memory_or_none_only_costs_time(root: Path, tmp_path: Path) -> None:
    dataset = text(tmp_path)
    first = content(dataset)
    assert not root.exists()  # a text needs no data folder, so it makes none
    root.mkdir()
    content(dataset)
    memory = root / ".contents.json"
    [key] = json.loads(memory.read_text())
    entries = [{}, None, 1, {"sources": 1, "facts": "", "sha256": ""}, {"sources": ["a.txt"], "facts": 1, "sha256": 1}]
    for damage in ("", "[]", "{", "null", *(json.dumps({key: entry}) for entry in entries)):
        memory.write_text(damage)
        assert remembered(asdict(dataset)) is None
        assert content(dataset) == first
        assert remembered(asdict(dataset)) == first


@pytest.mark.parametrize("spelling", ["a.txt", "./a.txt", "../here/a.txt", "link.txt"])
def test_spellings_of_a_path_are_one_entry(
    spelling: str, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: list[str]
) -> None:
    root.mkdir()
    dataset = text(tmp_path / "here")
    (tmp_path / "here/link.txt").symlink_to("a.txt")
    monkeypatch.chdir(tmp_path / "here")
    first = content(dataset)
    other = Text(train=spelling, valid=spelling, test=spelling)
    assert content(other) == remembered(asdict(other)) == first
    assert reads == ["text"]


def test_settings_that_decide_the_numbers_have_an_entry_each(root: Path, tmp_path: Path) -> None:
    root.mkdir()
    assert remembered(asdict(text(tmp_path))) is None
    content(text(tmp_path))
    assert remembered(asdict(text(tmp_path, vocabulary="train", min_count=2))) is None


@pytest.mark.parametrize("name", ["ptb", "wikitext2", "ag_news", "imdb", "yelp_polarity"])
def test_of_what_is_downloaded_there_is_nothing_to_compare(name: str, root: Path) -> None:
    assert content(lookup("dataset", name)()) is None
    assert not root.exists()


def test_files_that_the_user_has_not_got_are_not_compared(root: Path, tmp_path: Path) -> None:
    assert content(AmazonFineFood()) is None
    dataset = tweets(tmp_path)
    content(dataset)
    (root / "sanders_twitter/full-corpus.csv").unlink()
    assert content(dataset) is remembered(asdict(dataset)) is None


def test_unpacked_reviews_are_compared(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    imdb = lookup("dataset", "imdb")()
    folders = [root / "imdb/aclImdb" / split / label for split in ("train", "test") for label in ("neg", "pos")]
    for folder in folders:
        put(folder / "0_1.txt", f"so {folder.name}")
    monkeypatch.setattr("sparse_rnn.data.labelled.acl_imdb.REVIEWS", 1)
    first = content(imdb)
    assert first == imdb.load().sha256
    (folders[0] / "0_1.txt").write_text("so odd")
    assert remembered(asdict(imdb)) == CHANGED
    assert content(imdb) != first


def test_text_that_comes_with_python_is_known_by_its_module(root: Path) -> None:
    root.mkdir()
    for dataset in (PyDoc(), PyDocTopics()):
        assert content(dataset) == remembered(asdict(dataset)) == dataset.load().sha256


def test_data_that_cannot_be_read_say_why(root: Path, tmp_path: Path) -> None:
    dataset = text(tmp_path)
    Path(dataset.train).write_bytes(b"\0\0")
    with pytest.raises(ConfigError, match="has a NUL byte"):
        content(dataset)

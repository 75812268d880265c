"""Labelled data sets without publisher: the user's files, and the topics of pydoc."""

import gzip
from pathlib import Path

import pytest
import torch
from refusals import refusal

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.corpus import SPLITS
from sparse_rnn.data.labelled.own import LabelledText, PyDocTopics
from sparse_rnn.data.labelled.texts import LabelledTexts


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path))
    return tmp_path


def label_counts(texts: LabelledTexts, *splits: str) -> list[int]:
    labels = torch.cat([texts.splits[split].labels for split in splits or SPLITS])
    counts: list[int] = torch.bincount(labels, minlength=len(texts.classes)).tolist()
    return counts


def own(folder: Path, **contents: str) -> LabelledText:
    """dataset=labelled_text with these files."""
    for split, content in contents.items():
        (folder / f"{split}.csv").write_text(content)
    return LabelledText(**{split: f"{folder}/{split}.csv" for split in contents})


OWN = {"train": "label,text\n" + "spam,buy now\nham,see you\n" * 10, "test": "ham,hello you\n"}


def test_labelled_text_with_and_without_a_validation_file(root: Path) -> None:
    texts = own(root, **OWN).load()
    assert texts.classes == ("ham", "spam")
    assert texts.counts == {"train": 18, "valid": 2, "test": 1}
    assert own(root, **OWN).sizes() == (20_000, 2)
    given = own(root, **OWN, valid="Label,Text\nspam,buy\n").load()
    assert given.counts == {"train": 20, "valid": 1, "test": 1}


def test_labelled_text_reads_compressed_files(root: Path) -> None:
    dataset = own(root, **OWN)
    expected = dataset.load().sha256
    for split, text in OWN.items():
        (root / f"{split}.csv.gz").write_bytes(gzip.compress(text.encode()))
        (root / f"{split}.csv").unlink()
    assert dataset.load().sha256 == expected


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"test": "ham,a\neggs,b\n"}, "test.csv, line 2, has the label 'eggs' instead of one of ham, spam: "),
        ({"valid": "eggs,b\n"}, "valid.csv, line 1, has the label 'eggs' instead of one of ham, spam: "),
        (
            {"train": "sentiment,text\nham,a\nspam,b\nham,c\n"},
            "train.csv has the label 'sentiment' in its first row alone: ",
        ),
        ({"train": ""}, "train.csv has no texts: a classifier needs two labels."),
        ({"train": "label,text\n"}, "train.csv has no texts: a classifier needs two labels."),
        ({"train": "spam,a\n" * 9}, "train.csv has texts of one label: a classifier needs two labels."),
        ({"train": "ham,a\nspam\n"}, "train.csv, line 2, has 1 column instead of 2: "),
        ({"train": "ham,a\nspam,b\0\n"}, "train.csv, line 2, has a NUL byte, as UTF-16 has: "),
    ],
)
def test_malformed_labelled_text_is_refused(changed: dict[str, str], sentence: str, root: Path) -> None:
    assert refusal(own(root, **{**OWN, **changed})).startswith(f"{root}/{sentence}")


def test_texts_in_the_place_of_labels_are_not_all_repeated(root: Path) -> None:
    swapped = "".join(f'"{"long " * 50}\n{n}",ham\n' for n in range(200))
    assert len(refusal(own(root, train=swapped, test="ham,hello you\n"))) < 1_500


def test_missing_labelled_text_is_refused(root: Path) -> None:
    dataset = own(root, **OWN)
    Path(dataset.test).unlink()
    assert refusal(dataset) == f"dataset.test={root}/test.csv does not exist."


def test_missing_settings_are_named_by_the_command_line() -> None:
    for given, missing in {
        "": "dataset.train=FILE and dataset.test=FILE",
        "dataset.train=x": "dataset.test=FILE",
    }.items():
        with pytest.raises(ConfigError) as caught:
            compose_run(["model=lstm_classifier", "dataset=labelled_text", *given.split()])
        assert str(caught.value) == f"dataset=labelled_text needs {missing}."


def test_pydoc_topics_are_told_apart_by_naive_bayes() -> None:
    dataset = PyDocTopics()
    texts = dataset.load()
    assert texts.sizes == dataset.sizes() == (2_000, 8)
    assert list(texts.classes) == sorted(texts.classes)
    assert min(label_counts(texts)) > 30
    assert sum(texts.counts.values()) > 500
    train, test = texts.splits["train"], texts.splits["test"]
    counts = torch.ones(8, 2_000)
    counts.index_put_(
        (train.labels.repeat_interleave(50), train.tokens.flatten().long()), torch.tensor(1.0), accumulate=True
    )
    likelihoods = (counts / counts.sum(1, keepdim=True)).log()
    likelihoods[:, 0] = 0
    guessed = likelihoods[:, test.tokens.long()].sum(2).argmax(0)
    accuracy = float((guessed == test.labels).float().mean())
    assert accuracy > 0.5
    assert max(label_counts(texts, "test")) < 0.35 * texts.counts["test"]


def test_pydoc_topics_have_no_paragraph_of_two_topics(monkeypatch: pytest.MonkeyPatch) -> None:
    shared = "This paragraph of eight words stands in both."
    invented = {
        f"topic{letter}": "\n\n".join([shared, "too short", *(f"{letter}{i} b c d e\nf g h" for i in range(size))])
        for letter, size in zip("abcd", (20, 30, 10, 25), strict=True)
    }
    monkeypatch.setattr("pydoc_data.topics.topics", invented)
    texts = PyDocTopics(topics=3).load()
    assert texts.classes == ("topica", "topicb", "topicd")
    assert label_counts(texts) == [20, 30, 25]
    with pytest.raises(ConfigError, match=r"^dataset\.topics=1 must be at least 2\.$"):
        PyDocTopics(topics=1)

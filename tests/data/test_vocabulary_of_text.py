"""The vocabulary of dataset=text: of the training file, or of all three; what a run says of it."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from refusals import refusal

from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import as_dict, run_id
from sparse_rnn.config.stored import differences, run_from_dict
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.corpus import END_OF_SENTENCE, SPLITS, UNKNOWN, Corpus, make_corpus
from sparse_rnn.data.language.corpora import PyDoc, Text
from sparse_rnn.training.announcement import data_facts

FILES = {"train": "a a a b b b c c\n" * 2 + "d\n", "valid": "a d new newer\n", "test": "b c other\n"}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Overrides that name the three files."""
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path / "data"))
    for split, text in FILES.items():
        (tmp_path / f"{split}.txt").write_text(text)
    return ["dataset=text", *(f"dataset.{split}={tmp_path}/{split}.txt" for split in SPLITS)]


def dataset(files: list[str], *overrides: str) -> Any:
    return compose_run([*files, *overrides]).dataset


@pytest.mark.parametrize(
    ("overrides", "words", "unknown"),
    [
        ([], ["<unk>", "a", "b", "c", "<eos>"], 3),
        (["dataset.min_count=1"], ["<unk>", "a", "b", "c", "<eos>", "d"], 2),
        (["dataset.min_count=6"], ["<unk>", "a", "b"], 4),
        (["dataset.vocabulary=all"], ["a", "b", "c", "<eos>", "d", "new", "newer", "other"], None),
    ],
)
def test_which_words_it_has(files: list[str], overrides: list[str], words: list[str], unknown: int | None) -> None:
    corpus = dataset(files, *overrides).load()
    assert corpus.vocabulary.words == words
    assert dataset(files, *overrides).sizes() == (len(words),)
    assert corpus.unknown("valid") == unknown
    said = data_facts(corpus)
    assert said.startswith(f"20 / 5 / 4 tokens, {len(words)} words")
    assert said.endswith("words" if unknown is None else f", {unknown} of the validation tokens unknown")


def test_a_budget_cuts_what_is_counted(files: list[str]) -> None:
    assert dataset(files).load().limited(None, 2).unknown("valid") == 1


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["dataset.vocabulary=none"], "dataset.vocabulary=none must be one of train, all."),
        (["dataset.min_count=0"], "dataset.min_count=0 must be at least 1."),
        (
            ["dataset.vocabulary=all", "dataset.min_count=2"],
            "dataset.min_count=2 means nothing with dataset.vocabulary=all, which has every word: leave one of them "
            "out.",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused(files: list[str], overrides: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        dataset(files, *overrides)
    assert str(caught.value) == sentence


def test_a_text_whose_words_are_all_rare_is_refused(files: list[str], tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("a b c d\n")
    assert refusal(dataset(files)) == (
        "The train split of the data set has a vocabulary of one word with dataset.min_count=3: lower it, since a "
        "language model needs two."
    )


def test_the_vocabulary_is_part_of_the_identity_and_its_spelling_is_not(files: list[str]) -> None:
    ids = {
        name: run_id(compose_run([*files, *overrides.split()]))
        for name, overrides in {
            "usual": "",
            "spelled": "dataset.vocabulary=train dataset.min_count=3",
            "two": "dataset.min_count=2",
            "all": "dataset.vocabulary=all",
            "every": "dataset.vocabulary=all dataset.min_count=1",
        }.items()
    }
    assert ids["usual"] == ids["spelled"]
    assert ids["all"] == ids["every"]
    assert len(set(ids.values())) == 3


@pytest.mark.parametrize(("min_count", "vocabulary"), [(1, "all"), (2, "train")])
def test_a_recorded_configuration_of_before_means_what_it_meant(
    files: list[str], min_count: int, vocabulary: str
) -> None:
    now = as_dict(compose_run([*files, f"dataset.vocabulary={vocabulary}", f"dataset.min_count={min_count}"]))
    before = {**now, "dataset": {k: v for k, v in now["dataset"].items() if k not in ("vocabulary", "label")}}
    assert run_from_dict(before).dataset == run_from_dict(now).dataset
    assert differences(before, now) == []
    other = as_dict(compose_run(files))
    assert "dataset.vocabulary" in differences(before, other) or "dataset.min_count" in differences(before, other)


def test_the_id_of_a_run_on_all_words_is_that_of_before(files: list[str]) -> None:
    """A value that equals its schema's default does not count: `all` and 1 are the defaults."""
    run = compose_run([*files, "dataset.vocabulary=all"])
    assert {f: v for f, v in asdict(run.dataset).items() if f in ("vocabulary", "min_count")} == {  # type: ignore[call-overload]
        "vocabulary": "all",
        "min_count": 1,
    }
    assert (Text.vocabulary, Text.min_count) == ("all", 1)


def test_the_embedded_corpus_has_the_words_of_its_training_split() -> None:
    corpus = PyDoc().load()
    assert (corpus.unknown("valid") or 0) > 0
    assert PyDoc(min_count=1).load().unknown("valid") is None


def test_published_corpora_have_every_word() -> None:
    corpus: Corpus = make_corpus({"train": ["a", "b"], "valid": ["c"], "test": ["d"]})
    assert corpus.vocabulary.words == ["a", "b", "c", "d"]
    assert corpus.unknown("valid") is None


def test_an_unknown_word_without_a_number_is_one_sentence() -> None:
    with pytest.raises(ConfigError, match=rf"^x is not a word of the data set, which has no {UNKNOWN} either\.$"):
        make_corpus({"train": ["a", "b"], "valid": ["c"], "test": ["d"]}).vocabulary.encode(iter(["a", "x"]))
    assert END_OF_SENTENCE not in make_corpus({"train": ["a", "b"], "valid": ["c"], "test": ["d"]}).vocabulary.index

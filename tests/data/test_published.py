"""What all published data sets of labelled texts share: sizes, settings, and what is said when files are missing."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from refusals import refusal

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.registry import choices, lookup
from sparse_rnn.data.labelled.dataset import LabelledDataset
from sparse_rnn.data.labelled.texts import _drawn_test

PUBLISHED: Mapping[str, tuple[int, int, int]] = {  # classes, training and test texts
    "sanders_twitter": (4, 4_410, 1_103),
    "imdb": (2, 25_000, 25_000),
    "yelp2018": (5, 120_000, 30_000),
    "ag_news": (4, 120_000, 7_600),
    "amazon_fine_food": (5, 454_763, 113_691),
    "yelp_polarity": (2, 560_000, 38_000),
}


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


def test_every_labelled_data_set_has_a_configuration() -> None:
    names = [name for name in choices("dataset") if issubclass(lookup("dataset", name), LabelledDataset)]
    assert {*PUBLISHED, "labelled_text", "pydoc_topics"} <= set(names)
    for name in names:
        files = ["dataset.train=x", "dataset.test=x"] if name == "labelled_text" else []
        run = compose_run(["model=lstm_classifier", f"dataset={name}", *files])
        assert type(run.dataset) is lookup("dataset", name)

"""dataset.label: what ids, logs and pages call the user's own files."""

from pathlib import Path

import pytest

from launch.estimate import Throughput
from results.sources.logs import LoggedRun, Logs
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import as_dict, run_id
from sparse_rnn.config.stored import differences
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.content import content, remembered
from sparse_rnn.data.labels import dataset_name
from sparse_rnn.data.language.corpora import Text

CLASSIFIER = ["model=lstm_classifier", "dataset=labelled_text"]


@pytest.fixture
def texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path / "data"))
    (tmp_path / "a.txt").write_text("a b c\n" * 5)
    return ["dataset=text", *(f"dataset.{split}={tmp_path}/a.txt" for split in ("train", "valid", "test"))]


@pytest.fixture
def tables(tmp_path: Path, texts: list[str]) -> list[str]:
    (tmp_path / "a.csv").write_text("ham,a\nspam,b\n" * 9)
    return [*CLASSIFIER, f"dataset.train={tmp_path}/a.csv", f"dataset.test={tmp_path}/a.csv"]


@pytest.mark.parametrize("kind", ["texts", "tables"])
def test_it_names_the_run_and_changes_nothing_else(kind: str, request: pytest.FixtureRequest) -> None:
    overrides = request.getfixturevalue(kind)
    plain, named = compose_run(overrides), compose_run([*overrides, "dataset.label=kjv-2_A"])
    assert run_id(named) == run_id(plain).replace("-text-", "-kjv-2_A-").replace("-labelled_text-", "-kjv-2_A-")
    assert run_id(named) != run_id(plain)
    assert differences(as_dict(plain), as_dict(named)) == []
    assert (dataset_name(as_dict(named)["dataset"]), dataset_name(as_dict(plain)["dataset"])) == (
        "kjv-2_A",
        plain.dataset.name,
    )


def test_a_label_does_not_make_data_be_read_again(texts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    known = content(compose_run(texts).dataset)

    def unread(self: Text) -> None:
        raise AssertionError("the text was read")

    monkeypatch.setattr(Text, "load", unread)
    named = compose_run([*texts, "dataset.label=kjv"])
    assert content(named.dataset) == remembered(as_dict(named.dataset)) == known
    run_id(named)


@pytest.mark.parametrize("kind", ["text", "labelled_text"])
@pytest.mark.parametrize(
    ("label", "sentence"),
    [
        ("a b", "dataset.label=a b must be one word of the letters a to z, digits, '_' and '-'."),
        ("a.b", "dataset.label=a.b must be one word of the letters a to z, digits, '_' and '-'."),
        ("../x", "dataset.label=../x must be one word of the letters a to z, digits, '_' and '-'."),
        ("bibel\u00fc", "dataset.label=bibel\u00fc must be one word of the letters a to z, digits, '_' and '-'."),
        ("x" * 65, f"dataset.label={'x' * 65} must have at most 64 characters."),
        ("ptb", "dataset.label=ptb is the name of a data set itself: choose another label."),
        ("text", "dataset.label=text is the name of a data set itself: choose another label."),
    ],
)
def test_what_cannot_be_a_label(kind: str, label: str, sentence: str) -> None:
    overrides = CLASSIFIER if kind == "labelled_text" else ["dataset=text", "dataset.valid=b"]
    with pytest.raises(ConfigError) as caught:
        compose_run([*overrides, "dataset.train=a", "dataset.test=c", f"dataset.label='{label}'"])
    assert str(caught.value) == sentence


def test_logs_and_estimates_use_it(texts: list[str]) -> None:
    plain, named = (as_dict(compose_run([*texts, *more])) for more in ([], ["dataset.label=kjv"]))
    environment = {"commit": None, "modified": None, "host": "here"}
    for config, shown in ((plain, "text"), (named, "kjv")):
        run = LoggedRun("an-id", config, {"environment": environment}, "unfinished", None, "", list)
        assert run.facts["dataset"] == Logs("none", {"an-id": run}).frame["dataset"][0] == shown
    record = {"config": named, "tokens_per_second": 10.0, "seconds": 1.0, "device": "cpu", "threads": 1}
    measured = Throughput.of([{**record, "environment": {"device_name": "a CPU"}}])
    assert measured.hours(named, 36_000) == {"a CPU, 1 thread": 1.0}
    assert measured.hours(plain, 36_000) == {}


def test_only_own_files_have_one() -> None:
    with pytest.raises(ConfigError):
        compose_run(["dataset=ptb", "+dataset.label=kjv"])

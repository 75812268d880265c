"""dataset.format of labelled_text: CSV, tabs, JSON lines, and their errors."""

import csv
import gzip
import json
from pathlib import Path

import pytest
from refusals import refusal

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.labelled.own import LabelledText
from sparse_rnn.data.labelled.readers import format_of

TEXTS = [("spam", 'buy "now", and pay'), ("ham", "see you"), ("ham", '"quoted" at the start')] * 6


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path / "data"))


def own(folder: Path, name: str, content: str, **settings: str) -> LabelledText:
    path = folder / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    return LabelledText(train=str(path), test=str(path), **settings)  # type: ignore[arg-type]


def in_csv(folder: Path) -> str:
    path = folder / "written.csv"
    with path.open("w", newline="") as stream:
        csv.writer(stream).writerows(TEXTS)
    return path.read_text()


def in_tabs() -> str:
    return "".join(f"{label}\t{text}\n" for label, text in TEXTS)


def in_json(label: str = "label", text: str = "text") -> str:
    return "".join(json.dumps({text: words, "id": 1, label: name}) + "\n" for name, words in TEXTS)


@pytest.mark.parametrize(
    ("name", "settings", "kind"),
    [
        ("a.tsv", {}, "tsv"),
        ("a.tab.gz", {}, "tsv"),
        ("a.TSV", {}, "tsv"),
        ("a.txt", {"format": "tsv"}, "tsv"),
        ("a.csv", {"format": "tsv"}, "tsv"),
        ("a.jsonl", {}, "jsonl"),
        ("a.ndjson", {}, "jsonl"),
        ("a.jsonl.gz", {}, "jsonl"),
        ("a.txt", {"format": "jsonl"}, "jsonl"),
        ("a.jsonl", {"label_key": "stars", "text_key": "body"}, "renamed"),
        ("a.tsv", {"format": "csv"}, "csv"),
        ("a", {}, "csv"),
    ],
)
def test_every_format_gives_the_same_texts(name: str, settings: dict[str, str], kind: str, tmp_path: Path) -> None:
    expected = own(tmp_path, "expected.csv", in_csv(tmp_path)).load()
    content = {"csv": in_csv(tmp_path), "tsv": in_tabs(), "jsonl": in_json(), "renamed": in_json("stars", "body")}[kind]
    found = own(tmp_path, name, content, **settings).load()
    assert found.classes == ("ham", "spam")
    assert found.sha256 == expected.sha256
    assert found.known == expected.known


def test_a_header_with_tabs_is_passed_over(tmp_path: Path) -> None:
    assert (
        own(tmp_path, "a.tsv", f"label\ttext\n{in_tabs()}").load().sha256
        == own(tmp_path, "b.tsv", in_tabs()).load().sha256
    )


def test_a_quote_that_begins_a_text_swallows_no_rows_with_tabs(tmp_path: Path) -> None:
    texts = own(tmp_path, "a.tsv", 'ham\t"he said\nspam\tno"\n' * 10).load()
    assert sum(texts.counts[split] for split in ("train", "valid")) == 20


def test_labels_of_json_lines(tmp_path: Path) -> None:
    labels = ["1", 5.0, 4.5, 7, True, " a ", 10**400]
    content = "".join(json.dumps({"label": label, "text": "word"}) + "\n" for label in labels * 9)
    assert own(tmp_path, "a.jsonl", content).load().classes == tuple(
        sorted(["1", "5", "4.5", "7", "true", "a", str(10**400)])
    )


def test_a_class_whose_only_text_comes_first_is_no_header_in_json_lines(tmp_path: Path) -> None:
    content = "".join(json.dumps({"label": label, "text": "word"}) + "\n" for label in "abbbb")
    assert own(tmp_path, "a.jsonl", content).load().classes == ("a", "b")


def test_a_long_field_is_read_and_the_limit_of_others_stays(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    long = "word " * 100_000
    texts = own(tmp_path, "a.csv", f'ham,"{long}"\nspam,b\n' * 3).load()
    assert sum(texts.counts.values()) == 12
    assert csv.field_size_limit() == before
    texts = own(tmp_path, "a.tsv", f"ham\t{long}\nspam\tb\n" * 3).load()
    assert sum(texts.counts.values()) == 12


@pytest.mark.parametrize(
    ("name", "line", "sentence"),
    [
        ("a.jsonl", '{"label": "a"', "is not JSON ("),
        ("a.jsonl", "[" * 100_000, "is not JSON ("),
        ("a.jsonl", '["a", "b"]', "has no label label or no text text: "),
        ("a.jsonl", '{"text": "b"}', "has no label label or no text text: "),
        ("a.jsonl", '{"label": null, "text": "b"}', "has no label label or no text text: "),
        ("a.jsonl", '{"label": "a", "text": 1}', "has no label label or no text text: "),
        ("a.jsonl", '{"label": " ", "text": "b"}', "has no label: "),
        ("a.tsv", "a,b", "has 1 column instead of 2: "),
        ("a.tsv", "a\tb\tc", "has 3 columns instead of 2: "),
        ("a.tsv", "\tb", "has no label: "),
        ("a.csv", "a\tb", "has 1 column instead of 2: "),
    ],
)
def test_malformed_lines_are_named(name: str, line: str, sentence: str, tmp_path: Path) -> None:
    good = {"a.jsonl": '{"label": "a", "text": "b"}', "a.tsv": "a\tb", "a.csv": "a,b"}[name]
    found = refusal(own(tmp_path, name, f"{good}\n{line}\n"))
    assert found.startswith(f"{tmp_path}/{name}, line 2, {sentence}")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (["dataset.format=xml"], "dataset.format=xml must be one of auto, csv, tsv, jsonl."),
        (["dataset.text_key=body"], "dataset.text_key means nothing without a file of JSON lines: leave it out."),
        (["dataset.label_key=x"], "dataset.label_key means nothing without a file of JSON lines: leave it out."),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_before_data_are_read(settings: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        compose_run(
            ["model=lstm_classifier", "dataset=labelled_text", "dataset.train=a.csv", "dataset.test=b.csv", *settings]
        )
    assert str(caught.value) == sentence


def test_the_suffix_tells_the_format_unless_one_is_chosen() -> None:
    names = {"a": "csv", "a.csv": "csv", "a.tsv.gz": "tsv", "a.json": "jsonl", "b.tsv/a": "csv", "a.jsonl.bak": "csv"}
    assert {name: format_of(name, "auto") for name in names} == names
    assert format_of("a.tsv", "jsonl") == "jsonl"

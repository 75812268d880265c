"""Readers of labelled texts: what they take, and the sentence and line for what they refuse."""

import gzip
import io
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.labelled.readers import (
    Example,
    csv_examples,
    json_examples,
    labelled,
    named_csv_examples,
    snap_examples,
)
from sparse_rnn.data.text_files import archive_lines, find_file, lines

Reader = Callable[[Path], Iterator[Example]]
AGAIN = "correct the file, or get it again."


def two_columns(path: Path) -> Iterator[Example]:
    return csv_examples(lines(path), path, 2)


def with_header(path: Path) -> Iterator[Example]:
    return named_csv_examples(lines(path), path, "Score", "Text")


def objects(path: Path) -> Iterator[Example]:
    return json_examples(lines(path), path, "stars", "text")


def records(path: Path) -> Iterator[Example]:
    return snap_examples(lines(path, "latin-1"), path)


def read(reader: Reader, path: Path, content: str | bytes) -> list[Example]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(reader(path))


def refusal(reader: Reader, path: Path, content: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        read(reader, path, content)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(".")
    assert sentence.startswith(str(path))
    return sentence.removeprefix(str(path))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "texts.csv"


def test_csv_rows_over_lines_with_quotes_and_blank_lines(path: Path) -> None:
    found = read(two_columns, path, '"1","one, ""two""\nthree"\r\n\n 2 ,four\n"3","last"')
    assert found == [Example(1, "1", 'one, "two"\nthree'), Example(4, "2", "four"), Example(5, "3", "last")]


def test_further_columns_are_joined(path: Path) -> None:
    path.write_text("1,title,description\n")
    assert list(csv_examples(lines(path), path, 3)) == [Example(1, "1", "title description")]


def test_only_a_first_row_is_a_header(path: Path) -> None:
    path.write_text("Label,text\nlabel,the word label\n")
    assert list(csv_examples(lines(path), path, 2, "label")) == [Example(2, "label", "the word label")]


def test_columns_by_name_in_any_order(path: Path) -> None:
    assert read(with_header, path, "Text,Id,Score\nwords,17,5\n") == [Example(2, "5", "words")]


def test_json_objects_with_whole_stars(path: Path) -> None:
    content = '{"text": "caf\\u00e9\\nbar", "stars": 5.0}\n\n{"stars": 1, "text": "b"}'
    assert read(objects, path, content) == [Example(1, "5", "caf\u00e9\nbar"), Example(3, "1", "b")]


def test_snap_records_with_values_over_lines(path: Path) -> None:
    content = (
        'product/productId: B1\nreview/profileName: nancy "x\nof y"\nreview/score: 5.0\nreview/summary: s: t\n'
        "review/text: good: very\n\nproduct/productId: B2\nreview/score: 1.0\nreview/text: caf\u00e9\nbar\n"
    )
    found = read(records, path, content.encode("latin-1"))
    assert found == [Example(1, "5", "good: very"), Example(8, "1", "caf\u00e9\nbar")]


@pytest.mark.parametrize(
    ("reader", "content"),
    [(two_columns, "1,a\n"), (with_header, "Score,Text\n1,a\n"), (objects, '{"stars": 1, "text": "a"}\n')],
    ids=["csv", "named", "json"],
)
def test_a_byte_order_mark_is_passed_over(reader: Reader, content: str, path: Path) -> None:
    (example,) = read(reader, path, b"\xef\xbb\xbf" + content.encode())
    assert example[1:] == ("1", "a")


def test_the_compressed_file_is_found_and_read(path: Path) -> None:
    assert find_file(path) is None
    packed = path.with_name("texts.csv.gz")
    packed.write_bytes(gzip.compress(b"1,a\n2,b\n"))
    assert find_file(path) == packed
    assert [example.text for example in two_columns(packed)] == ["a", "b"]
    path.touch()
    assert find_file(path) == path


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("1,a\n2,b,c\n", f", line 2, has 3 columns instead of 2: {AGAIN}"),
        ('1,"a\nb"\n2\n', f", line 3, has 1 column instead of 2: {AGAIN}"),
        ("1,a\n,b\n", f", line 2, has no label: {AGAIN}"),
        ("1,a\n2,b\0c\n", ", line 2, has a NUL byte, as UTF-16 has: convert it to UTF-8."),
        (
            "1,a\n2,caf\u00e9\n".encode("latin-1"),
            ", line 2, is not UTF-8 text (byte 6 of the line is 0xE9): convert it to UTF-8, for example with `iconv -f "
            "LATIN1 -t UTF-8` if it is Latin-1.",
        ),
        ('1,a\n2,"b\nc', f", line 2, is not comma-separated text (unexpected end of data): {AGAIN}"),
        ('1,"a" b\n', f""", line 1, is not comma-separated text (',' expected after '"'): {AGAIN}"""),
    ],
)
def test_malformed_csv_is_refused(content: str | bytes, sentence: str, path: Path) -> None:
    assert refusal(two_columns, path, content) == sentence


def test_a_missing_column_is_refused(path: Path) -> None:
    assert refusal(with_header, path, "Id,Score\n1,2\n") == f" has no column Text in its first line: {AGAIN}"
    assert refusal(with_header, path, "") == f" has no column Score in its first line: {AGAIN}"
    short = refusal(with_header, path, "Id,Score,Text\n1,2,c\n1,2\n")
    assert short == f", line 3, has 2 columns instead of 3: {AGAIN}"


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ('{"stars": 1, "text', f"is not JSON (Unterminated string starting at): {AGAIN}"),
        ("stars", f"is not JSON (Expecting value): {AGAIN}"),
        ("[1]", f"has no number stars or no text text: {AGAIN}"),
        ('{"stars": "1", "text": "a"}', f"has no number stars or no text text: {AGAIN}"),
        ('{"stars": 1}', f"has no number stars or no text text: {AGAIN}"),
    ],
)
def test_malformed_json_is_refused(line: str, sentence: str, path: Path) -> None:
    assert refusal(objects, path, f'{{"stars": 1, "text": "a"}}\n{line}\n') == f", line 2, {sentence}"


def test_snap_records_without_text_or_score_are_refused(path: Path) -> None:
    start = "product/productId: B1\nreview/score: 5.0\nreview/text: a\n\nproduct/productId: B2\n"
    without = f", line 5, starts a record without review/{{}}: {AGAIN}"
    assert refusal(records, path, start + "review/score: 1.0\n") == without.format("text")
    assert refusal(records, path, start + "review/text: b\n\nproduct/productId: B3\n") == without.format("score")


def test_labels_out_of_range_are_refused(path: Path) -> None:
    def reader(path: Path) -> Iterator[Example]:
        return labelled(two_columns(path), path, {"1": "", "2": ""})

    expected = f", line 2, has the label '3' instead of one of 1, 2: {AGAIN}"
    assert refusal(reader, path, "1,a\n3,b\n") == expected


BROKEN_OFF = "Compressed file ended before the end-of-stream marker was reached"


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda packed: packed[:-9], BROKEN_OFF),
        (lambda packed: packed[:40], BROKEN_OFF),
        (lambda packed: b"1,a\n", "Not a gzipped file (b'1,')"),
        (lambda packed: packed[:-8] + b"\0\0\0\0" + packed[-4:], "CRC check failed"),
    ],
    ids=["end", "middle", "not packed", "checksum"],
)
def test_a_broken_gzip_file_is_refused(damage: Callable[[bytes], bytes], reason: str, tmp_path: Path) -> None:
    packed = gzip.compress(b"".join(b"%d,word%d\n" % (i % 3, i * i) for i in range(1000)))
    sentence = refusal(two_columns, tmp_path / "texts.csv.gz", damage(packed))
    assert sentence.startswith(f" is damaged or cut off ({reason}")
    assert sentence.endswith("): remove it and get it again.")


def test_a_folder_in_the_place_of_a_file_is_refused(path: Path) -> None:
    path.mkdir()
    with pytest.raises(ConfigError) as caught:
        list(two_columns(path))
    assert str(caught.value) == f"{path} cannot be read: Is a directory."


def archive(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as packed:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            packed.addfile(entry, io.BytesIO(content))
    return path


def test_a_member_of_an_archive_is_read_in_place(tmp_path: Path) -> None:
    packed = archive(tmp_path / "texts.tgz", {"a/readme.txt": b"no\n", "a/test.csv": b"1,a\n", "a/train.csv": b"2,b\n"})
    assert list(archive_lines(packed, "a/train.csv")) == ["2,b\n"]
    assert list(archive_lines(packed, "a/test.csv")) == ["1,a\n"]
    assert [path.name for path in tmp_path.iterdir()] == ["texts.tgz"]
    with pytest.raises(ConfigError) as caught:
        list(archive_lines(packed, "a/valid.csv"))
    assert str(caught.value) == f"{packed} has no a/valid.csv: get it again."


def test_a_broken_archive_is_refused(tmp_path: Path) -> None:
    content = b"".join(b"1,word%d\n" % (i * i) for i in range(10_000))
    packed = archive(tmp_path / "texts.tgz", {"train.csv": content})
    packed.write_bytes(packed.read_bytes()[:5000])
    with pytest.raises(ConfigError) as caught:
        list(archive_lines(packed, "train.csv"))
    assert str(caught.value).startswith(f"{packed} is damaged or cut off (")
    packed.write_bytes(b"1,a\n")
    with pytest.raises(ConfigError, match=r"is damaged or cut off \("):
        list(archive_lines(packed, "train.csv"))

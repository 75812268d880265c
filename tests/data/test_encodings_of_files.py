"""Which bytes are read as text, of plain and of labelled files, and the sentence for those that are not."""

import codecs
import gzip
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from refusals import refusal

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.data.base import DatasetConfig
from sparse_rnn.data.labelled.own import LabelledText
from sparse_rnn.data.language.corpora import Text

PLAIN = "the café\nsat \U0001f600 on\u0a0a the mat\n" * 3
ROWS = "ham,the café\nspam,sat \U0001f600 on\u0a0a the mat\n" * 9
READ = {
    "UTF-8": lambda text: text.encode(),
    "UTF-8 with a mark": lambda text: codecs.BOM_UTF8 + text.encode(),
    "UTF-16 LE": lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le"),
    "UTF-16 BE": lambda text: codecs.BOM_UTF16_BE + text.encode("utf-16-be"),
    "UTF-32 LE": lambda text: codecs.BOM_UTF32_LE + text.encode("utf-32-le"),
    "UTF-32 BE": lambda text: codecs.BOM_UTF32_BE + text.encode("utf-32-be"),
    "without a last line feed": lambda text: codecs.BOM_UTF16_LE + text.removesuffix("\n").encode("utf-16-le"),
    "CR LF": lambda text: codecs.BOM_UTF16_LE + text.replace("\n", "\r\n").encode("utf-16-le"),
}
Encode = Callable[[str], bytes]


def plain(path: Path) -> DatasetConfig:
    return Text(train=str(path), valid=str(path), test=str(path))


def labelled(path: Path) -> DatasetConfig:
    return LabelledText(train=str(path), test=str(path))


KINDS = pytest.mark.parametrize(("dataset", "text"), [(plain, PLAIN), (labelled, ROWS)], ids=["text", "labelled_text"])


@pytest.fixture(autouse=True)
def _own_data_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path / "data"))


@KINDS
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
@pytest.mark.parametrize("encode", READ.values(), ids=READ.keys())
def test_one_text_in_every_certain_encoding(
    encode: Encode, packed: bool, dataset: Callable[[Path], DatasetConfig], text: str, tmp_path: Path
) -> None:
    (tmp_path / "plain.csv").write_text(text)
    expected = dataset(tmp_path / "plain.csv").load().sha256
    path = tmp_path / ("texts.csv.gz" if packed else "texts.csv")
    path.write_bytes(gzip.compress(encode(text)) if packed else encode(text))
    assert dataset(tmp_path / "texts.csv").load().sha256 == expected
    assert dataset(path).load().sha256 == expected


NUL = r"has a NUL byte, as UTF-16 has: convert it to UTF-8\.$"
LATIN = r"convert it to UTF-8, for example with `iconv -f LATIN1 -t UTF-8` if it is Latin-1\.$"
REFUSED = {
    "UTF-16 LE without a mark": (lambda text: text.encode("utf-16-le"), r", line 1, (has a NUL|is not UTF-8)"),
    "UTF-16 BE without a mark": (lambda text: text.encode("utf-16-be"), r", line 1, (has a NUL|is not UTF-8)"),
    "ASCII in UTF-16": (lambda text: b"a,b\n" + "c,d\n".encode("utf-16-le"), rf", line 2, {NUL}"),
    "Latin-1": (
        lambda text: text.replace("\U0001f600", "").replace("\u0a0a", "").encode("latin-1"),
        rf", line 1, is not UTF-8 text \(byte (8|12) of the line is 0xE9\): {LATIN}",
    ),
    "Latin-1 in a later line": (
        lambda text: text.encode() + b"ham,na\xefve\n",
        rf", line \d+, is not UTF-8 text \(byte 7 of the line is 0xEF\): {LATIN}",
    ),
    "a cut UTF-16": (
        lambda text: codecs.BOM_UTF16_LE + text.encode("utf-16-le")[:-1],
        r" begins as UTF-16 text and is none \(byte [\d,]+ of the file\): convert it to UTF-8\.$",
    ),
    "half a pair in UTF-16": (
        lambda text: codecs.BOM_UTF16_BE + b"\0a\xdc\0\0b\0\n",
        r" begins as UTF-16 text and is none \(byte 5 of the file\): convert it to UTF-8\.$",
    ),
    "a NUL in UTF-16": (lambda text: "a,b\nc\0,d\n".encode("utf-16"), rf", line 2, {NUL}"),
}


@KINDS
@pytest.mark.parametrize(("encode", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_not_certain_is_refused(
    encode: Encode, sentence: str, dataset: Callable[[Path], DatasetConfig], text: str, tmp_path: Path
) -> None:
    path = tmp_path / "texts.csv"
    path.write_bytes(encode(text))
    assert re.search(rf"{re.escape(str(path))}{sentence}", refusal(dataset(path)))


@KINDS
def test_a_damaged_archive_and_a_missing_file_are_one_sentence(
    dataset: Callable[[Path], DatasetConfig], text: str, tmp_path: Path
) -> None:
    path = tmp_path / "texts.csv.gz"
    path.write_bytes(gzip.compress(text.encode())[:-9])
    assert "is damaged or cut off (" in refusal(dataset(path))
    path.write_text("not packed\n")
    assert "is damaged or cut off (Not a gzipped file" in refusal(dataset(path))
    path.unlink()
    with pytest.raises(ConfigError, match=r"texts\.csv\.gz does not exist\.$"):
        dataset(path).load()

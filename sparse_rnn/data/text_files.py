"""Text files as lines, compressed or not; an error names the file and what is wrong where."""

import codecs
import gzip
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from sparse_rnn.core.errors import ConfigError

# Byte order marks and what they are of. That of UTF-32 comes first: it begins with that of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def find_file(path: Path) -> Path | None:
    """The path if there is such a file, or else the same with `.gz` appended if that exists, or else None."""
    compressed = path.with_name(f"{path.name}.gz") if path.name else path
    return next((found for found in (path, compressed) if found.exists()), None)


@contextmanager
def reading(source: object) -> Iterator[None]:
    """Turn what goes wrong while `source` is read into a ConfigError that names it."""
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError) as error:
        raise ConfigError(f"{source} is damaged or cut off ({error}): remove it and get it again.") from None
    except OSError as error:
        raise ConfigError(f"{source} cannot be read: {error.strerror or error}.") from None


def lines(path: Path, encoding: str = "utf-8", shown: object = None) -> Iterator[str]:
    """The lines of a text file, decompressed if its name ends in `.gz`. shown: what errors call it, else its path."""
    source = path if shown is None else shown
    with reading(source), gzip.open(path) if path.suffix == ".gz" else path.open("rb") as stream:
        yield from decoded(stream, source, encoding)


def archive_lines(path: Path, member: str) -> Iterator[str]:
    """The lines of the text file `member` of a compressed archive, read without unpacking the archive."""
    with reading(path), tarfile.open(path, "r|gz") as archive:
        for entry in archive:
            if entry.name == member and (stream := archive.extractfile(entry)):
                yield from decoded(stream, f"{path}:{member}")
                return
    raise ConfigError(f"{path} has no {member}: get it again.")


def decoded(stream: Iterable[bytes], source: object, encoding: str = "utf-8") -> Iterator[str]:
    """Lines as text, without a byte order mark; a line feed ends each but the last, which may have none.

    stream: the bytes by lines. Where UTF-8 is expected, UTF-16 and UTF-32 are read if the file begins with their mark.
    Raises ConfigError for bytes that are not of the encoding and for NUL bytes.
    """
    chunks = iter(stream)
    first = next(chunks, b"")
    marked = next((name for mark, name in MARKS.items() if first.startswith(mark)), "") if encoding == "utf-8" else ""
    decode = _by_mark if marked else _by_line
    for number, text in enumerate(decode(chain([first], chunks), source, marked or encoding), 1):
        if "\0" in text:  # ASCII characters in UTF-16 have one each, and are UTF-8 as well
            raise ConfigError(f"{source}, line {number}, has a NUL byte, as UTF-16 has: convert it to UTF-8.")
        yield text.removeprefix("\ufeff") if number == 1 else text


def _by_line(stream: Iterable[bytes], source: object, encoding: str) -> Iterator[str]:
    """Lines in an encoding in which a byte 0x0A is a line feed and nothing else."""
    for number, line in enumerate(filter(None, stream), 1):
        try:
            yield line.decode(encoding)
        except UnicodeDecodeError as error:
            place = f"byte {error.start + 1} of the line is 0x{line[error.start]:02X}"
            raise ConfigError(
                f"{source}, line {number}, is not {encoding.upper()} text ({place}): convert it to UTF-8, for example "
                "with `iconv -f LATIN1 -t UTF-8` if it is Latin-1."
            ) from None


def _by_mark(stream: Iterable[bytes], source: object, encoding: str) -> Iterator[str]:
    """Lines in the encoding that the byte order mark at their beginning is of."""
    decoder, read, begun = codecs.getincrementaldecoder(encoding)(), 0, ""
    for chunk in chain(stream, [b""]):
        read += len(chunk)
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            place = read - len(error.object) + error.start
            raise ConfigError(
                f"{source} begins as {encoding.upper()} text and is none (byte {place + 1:,} of the file): "
                "convert it to UTF-8."
            ) from None
        *complete, begun = f"{begun}{text}".split("\n")
        yield from (f"{line}\n" for line in complete)
    if begun:
        yield begun

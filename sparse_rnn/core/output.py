"""stdout and stderr that no character, full disk or closed pipe can make fail. Imports nothing heavy."""

import codecs
import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

ENCODING_ERRORS = "sparse_rnn.look_alike"
LOOK_ALIKES = {"±": "+-", "×": "x", "·": ".", "†": "*", "≤": "<=", "≥": ">=", "≈": "~", "→": "->", "…": "..."}
LOOK_ALIKES |= dict.fromkeys("−–—", "-") | dict.fromkeys("‘’", "'") | dict.fromkeys("“”", '"')
LOOK_ALIKES |= dict.fromkeys("▌▋▊▉█", "#") | dict.fromkeys("▏▎▍", " ")


class OutputLost(BaseException):
    """What a command prints cannot be written; no handler of errors may take it for a failure of the command."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.strerror or str(error))
        self.reader_has_gone = isinstance(error, BrokenPipeError)


class _Descriptor(io.FileIO):
    """A file descriptor that is given up at the first write that fails: from then on nothing is written.

    required: whether a write that fails, and every later one, raises OutputLost.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self.required = False
        self.lost: OSError | None = None

    def write(self, data: Any, /) -> int:
        if self.lost is None:
            try:
                return super().write(data)
            except OSError as error:
                self.lost = error
        if self.required and self.lost is not None:
            raise OutputLost(self.lost)
        return len(data)


@contextmanager
def safe_output(*, required: bool) -> Iterator[None]:
    """Let stdout and stderr replace what they cannot encode, and drop what they cannot write.

    required: whether OutputLost is raised where stdout cannot be written; otherwise the work goes on without it.
    Streams that are no files of the system, such as those of a notebook, stay as they are.
    """
    _open_closed_streams()
    before = sys.stdout, sys.stderr
    out, err = (stream if _descriptor(stream) else _safe(stream) for stream in before)
    sys.stdout, sys.stderr = out, err
    descriptor = _descriptor(out)
    required_before = descriptor is not None and descriptor.required
    if descriptor:
        descriptor.required = required
    try:
        yield
    finally:
        if descriptor:
            descriptor.required = False
        out.flush()
        err.flush()
        if descriptor:
            descriptor.required = required_before
        sys.stdout, sys.stderr = before


def lost_output() -> OutputLost | None:
    """Why stdout could not be written; None if everything was."""
    descriptor = _descriptor(sys.stdout)
    return OutputLost(descriptor.lost) if descriptor and descriptor.lost else None


def _descriptor(stream: Any) -> _Descriptor | None:
    """The descriptor below a stream that `_safe` has made."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw if isinstance(raw, _Descriptor) else None


def _safe(stream: Any) -> Any:
    """A stream in place of this one that never fails, and encodes as it does."""
    try:
        number = stream.fileno() if isinstance(stream, io.TextIOWrapper) else None
    except OSError:  # as of a stream in memory
        number = None
    if number is None:
        return stream
    stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Descriptor(number)),
        encoding=stream.encoding,
        errors=ENCODING_ERRORS if stream.errors in ("strict", "surrogateescape") else stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _open_closed_streams() -> None:
    """Let the null device take the place of standard streams that are closed, as by `>&-`.

    Else the next file to be opened would get the number 1, and what other programs print would go into it.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is None:
            if _is_closed(number):
                os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # which takes the lowest number
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115 (for the whole process)


def _is_closed(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return True
    return False


def _look_alike(error: UnicodeError) -> tuple[str, int]:
    """ASCII in place of characters that cannot be encoded."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(LOOK_ALIKES.get(sign, "?") for sign in error.object[error.start : error.end]), error.end


codecs.register_error(ENCODING_ERRORS, _look_alike)

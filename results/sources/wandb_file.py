"""W&B's offline log: one file `run-<id>.wandb` for each process that trained the run.

The format is that of LevelDB's log: a header of 7 bytes, then blocks of 32 KiB of frames (checksum, length, kind); one
or more frames make a record, which is a protobuf message. W&B has no public reader for Python; `wandb leet inspect
--json` prints the same records.
"""

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from sparse_rnn.core.reading import parse_json, read_bytes

from .logs import Row

FILE_HEADER = b":W&B\xe1\xbe\x00"
IDENTITY = FILE_HEADER[:4]

BLOCK, FRAME = 32768, struct.Struct("<IHB")
FULL, FIRST, LAST = 1, 2, 4
HISTORY, CONFIG, RUN, EXIT = 2, 5, 17, 18  # numbers of fields of wandb.proto's Record, which protobuf never reuses
READ = frozenset({HISTORY, CONFIG, RUN, EXIT})
VARINT, BYTES = 0, 2

DAMAGED = "a record in it is damaged"
NOTHING_YET = "it holds no run yet"


class NotALog(ValueError):
    """A file that is not a log of W&B, or cannot be used; the message says why."""


@dataclass(frozen=True)
class Segment:
    """What one process logged of a run, without its rows.

    start: unix seconds. exit_code: None if the process did not end the log. last: the last row as logged, with W&B's
    own columns. torn: whether the file ends within a record or has a wrong checksum; nothing after that was read.
    """

    run_id: str
    name: str
    group: str
    tags: list[str]
    config: dict[str, Any]
    start: float
    exit_code: int | None
    last: dict[str, Any] | None
    torn: bool


def read_segment(path: Path) -> Segment:
    """All of a log except its rows, of which only the last is decoded.

    A process that was killed or is still writing leaves a torn tail. That is no error here: the whole records are used,
    and the tear is a problem only if the run did not finish. Raises NotALog and OSError.
    """
    found, torn = _scan(path)
    messages = [(kind, _decoded(payload, path)) for kind, payload in found if kind != HISTORY]
    runs = [message.run for kind, message in messages if kind == RUN]
    if not runs:
        raise NotALog(NOTHING_YET)
    config: dict[str, Any] = {}
    for kind, message in messages:
        if kind in (RUN, CONFIG):
            config |= _values((message.run.config if kind == RUN else message.config).update)
    codes = [message.exit.exit_code for kind, message in messages if kind == EXIT]
    last = next((payload for kind, payload in reversed(found) if kind == HISTORY), None)
    return Segment(
        run_id=runs[0].run_id,
        name=runs[0].display_name,
        group=runs[0].run_group,
        tags=list(runs[0].tags),
        config=config,
        start=runs[0].start_time.ToNanoseconds() / 1e9,
        exit_code=codes[-1] if codes else None,
        last=None if last is None else _row(last, path),
        torn=torn,
    )


def read_rows(path: Path) -> Iterator[Row]:
    """The rows as logged, with W&B's own columns. Raises NotALog and OSError."""
    return (_row(payload, path) for kind, payload in _scan(path)[0] if kind == HISTORY)


def _row(payload: bytes, path: Path) -> dict[str, Any]:
    return _values(_decoded(payload, path).history.item)


def _values(items: Sequence[Any]) -> dict[str, Any]:
    try:  # one call for all: a third of the time
        values = parse_json(f"[{','.join([item.value_json for item in items])}]".encode())
        return dict(zip([item.key or ".".join(item.nested_key) for item in items], values, strict=True))
    except ValueError:
        raise NotALog(DAMAGED) from None


def _decoded(payload: bytes, path: Path) -> Any:
    from wandb.proto.wandb_internal_pb2 import Record  # takes a second, which a filled index saves

    try:
        return Record.FromString(payload)
    except DecodeError:
        raise NotALog(DAMAGED) from None


def _scan(path: Path) -> tuple[list[tuple[int, bytes]], bool]:
    """The records of the kinds in READ, each as its kind and its undecoded payload; and whether the tail is torn."""
    content = read_bytes(path)
    if content.startswith(IDENTITY) and not content.startswith(FILE_HEADER) and len(content) >= len(FILE_HEADER):
        raise NotALog("it has another version of W&B's log format")
    if content[: len(FILE_HEADER)] != FILE_HEADER[: len(content)]:
        raise NotALog("it is not a log of W&B")
    payloads, torn = _payloads(content)
    return [(kind, payload) for payload in payloads if (kind := _kind(payload)) in READ], torn


def _payloads(content: bytes) -> tuple[list[bytes], bool]:
    """The payload of every whole record; and whether something torn or damaged follows."""
    payloads: list[bytes] = []
    parts, at, end = b"", len(FILE_HEADER), len(content)
    unpack = FRAME.unpack_from
    while True:
        # A frame never starts in the last bytes of a block if its header does not fit there: they are padding.
        if BLOCK - at % BLOCK < FRAME.size:
            at += BLOCK - at % BLOCK
        if at + FRAME.size > end:
            return payloads, at < end or bool(parts)
        checksum, length, kind = unpack(content, at)
        at += FRAME.size
        if at + length > end or zlib.crc32(content[at - 1 : at + length]) != checksum:
            return payloads, True
        if kind == FULL:
            payloads.append(content[at : at + length])
        else:
            parts = content[at : at + length] if kind == FIRST else parts + content[at : at + length]
        if kind == LAST:
            payloads.append(parts)
            parts = b""
        at += length


def _kind(payload: bytes) -> int:
    """The kind of a record: the number of its field that is in READ, 0 if none is. Nothing else is decoded."""
    at = 0
    while at < len(payload):
        tag, at = _varint(payload, at)
        number, wire = tag >> 3, tag & 7
        if number in READ:
            return number
        value, at = _varint(payload, at) if wire in (VARINT, BYTES) else (0, len(payload))
        at += value if wire == BYTES else 0
    return 0


def _varint(payload: bytes, at: int) -> tuple[int, int]:
    """Protobuf's variable-length integer that begins at a byte, and the position after it."""
    value = shift = 0
    for byte in payload[at : at + 10]:
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
    return value, at

"""W&B's offline log, one `run-<id>.wandb` a process that worked on a run.

The file is LevelDB's log format: a header of 7 bytes, then blocks of 32 KiB that hold frames (checksum, length, kind);
frames make records, each a protobuf message. W&B has no public reader for Python; `wandb leet inspect --json` prints
the same records.
"""

import json
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from results.sources.logs import Row

FILE_HEADER = b":W&B\xe1\xbe\x00"
IDENTITY = FILE_HEADER[:4]

BLOCK, FRAME = 32768, struct.Struct("<IHB")

FULL, FIRST, LAST = 1, 2, 4

HISTORY, CONFIG, RUN, EXIT = 2, 5, 17, 18  # numbers of fields of wandb.proto's Record, which protobuf never reuses

TOLD = frozenset({HISTORY, CONFIG, RUN, EXIT})

VARINT, BYTES = 0, 2

NOTHING_YET = "it holds no run yet"


class NotALog(ValueError):
    """A file that is no log of W&B, or one that cannot be used; the sentence says why."""


@dataclass(frozen=True)
class Segment:
    """What one process logged of a run, without its rows.

    start: unix seconds. exit_code: None if the process never ended the log. last: the last row as logged, with W&B's
    own columns. torn: the file ends within a record, or a checksum is wrong, so that nothing after it was read.
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
    """All but the rows of a log; of these only the last is decoded.

    A process that was killed, or still works, leaves a torn tail, which is no error: what is whole is used, and
    whoever joins the segments tells of it if the run did not finish. Raises NotALog, and OSError.
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
    """The rows as logged, with W&B's own columns. Raises NotALog, and OSError."""
    return (_row(payload, path) for kind, payload in _scan(path)[0] if kind == HISTORY)


def _row(payload: bytes, path: Path) -> dict[str, Any]:
    return _values(_decoded(payload, path).history.item)


def _values(items: Sequence[Any]) -> dict[str, Any]:
    values = json.loads(f"[{','.join([item.value_json for item in items])}]")  # one call for all: a third of the time
    return dict(zip([item.key or ".".join(item.nested_key) for item in items], values, strict=True))


def _decoded(payload: bytes, path: Path) -> Any:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
    from wandb.proto.wandb_internal_pb2 import Record

    try:
        return Record.FromString(payload)
    except DecodeError:
        raise NotALog("a record in it is damaged") from None


def _scan(path: Path) -> tuple[list[tuple[int, bytes]], bool]:
    """The records that tell of the run, as the number of their field and undecoded; and whether the tail is torn."""
    content = path.read_bytes()
    if content.startswith(IDENTITY) and not content.startswith(FILE_HEADER) and len(content) >= len(FILE_HEADER):
        raise NotALog("it has another version of W&B's log format")
    if content[: len(FILE_HEADER)] != FILE_HEADER[: len(content)]:
        raise NotALog("it is no log of W&B")
    payloads, torn = _payloads(content)
    return [(kind, payload) for payload in payloads if (kind := _kind(payload)) in TOLD], torn


def _payloads(content: bytes) -> tuple[list[bytes], bool]:
    """Every whole record; and whether something follows that is none."""
    payloads: list[bytes] = []
    parts, at, end = b"", len(FILE_HEADER), len(content)
    unpack = FRAME.unpack_from
    while True:
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
    """What a record is: the number of its field that tells, 0 if none does."""
    at = 0
    while at < len(payload):
        tag, at = _varint(payload, at)
        number, wire = tag >> 3, tag & 7
        if number in TOLD:
            return number
        value, at = _varint(payload, at) if wire in (VARINT, BYTES) else (0, len(payload))
        at += value if wire == BYTES else 0
    return 0


def _varint(payload: bytes, at: int) -> tuple[int, int]:
    """The number that begins at a byte, and where the next thing begins."""
    value = shift = 0
    for byte in payload[at : at + 10]:
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            break
        shift += 7
    return value, at

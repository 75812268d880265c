"""Reads what the real W&B client wrote: records of a protobuf log framed as LevelDB does, whole ones only."""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparse_rnn.runs.folder import RunFolder

HEADER, BLOCK, FRAME = 7, 32768, struct.Struct("<IHB")
FULL, FIRST, MIDDLE, LAST = 1, 2, 3, 4


def segments(folder: RunFolder) -> list[Path]:
    """The .wandb files of a run, in the order in which they were begun."""
    return sorted(folder.path.glob("wandb/offline-run-*/run-*.wandb"))  # the folders bear the time


def records(segment: Path) -> Iterator[Any]:
    """All records up to where the file ends, even in the middle of one."""
    from wandb.proto.wandb_internal_pb2 import Record

    content = segment.read_bytes()
    assert content.startswith(b":W&B") or not content
    whole, at = b"", HEADER
    while True:
        if BLOCK - at % BLOCK < FRAME.size:
            at += BLOCK - at % BLOCK
        if at + FRAME.size > len(content):
            return
        _, length, kind = FRAME.unpack_from(content, at)
        at += FRAME.size
        part = content[at : at + length]
        if kind not in (FULL, FIRST, MIDDLE, LAST) or len(part) < length:
            return
        at += length
        whole = part if kind in (FULL, FIRST) else whole + part
        if kind in (FULL, LAST):
            yield Record.FromString(whole)


def history(segment: Path) -> list[dict[str, Any]]:
    """The logged rows, without W&B's own columns."""
    rows = []
    for record in records(segment):
        if record.HasField("history"):
            items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            rows.append({key: value for key, value in items.items() if not key.startswith("_")})
    return rows


def joined(folder: RunFolder) -> list[dict[str, Any]]:
    """The rows of all segments; of rows for the same place in the run, the later segment's."""
    rows = {order(row): row for segment in segments(folder) for row in history(segment)}
    return [rows[place] for place in sorted(rows)]


def order(row: dict[str, Any]) -> tuple[int, int]:
    """Where a row stands in a run: steps, then the epoch they end, then the test."""
    return row["step"], 2 if "best/valid/loss" in row else 1 if "valid/loss" in row else 0


def exit_codes(segment: Path) -> list[int]:
    """The exit code that `finish` wrote, if it was called."""
    return [record.exit.exit_code for record in records(segment) if record.HasField("exit")]


def run_record(segment: Path) -> Any:
    """What W&B knows of the run itself."""
    return next(record.run for record in records(segment) if record.HasField("run"))

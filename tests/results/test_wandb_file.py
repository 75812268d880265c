"""One file of W&B's offline log, as the real client writes it."""

import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

from results.sources import wandb_file
from results.sources.wandb_file import NotALog, read_rows, read_segment


def inspected(path: Path) -> list[dict[str, Any]]:
    """What W&B's own reader prints of a log."""
    command = [str(Path(sys.executable).with_name("wandb")), "leet", "inspect", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_reads_what_the_clients_own_reader_prints(whole: Path) -> None:
    records = inspected(whole)
    run = next(record["run"] for record in records if record["type"] == "run")
    segment = read_segment(whole)
    assert segment.config == run["config"]["update"]
    assert (segment.run_id, segment.name, segment.group) == (run["run_id"], run["display_name"], run["run_group"])
    assert segment.tags == run["tags"] == ["tag"]
    rows = [record["history"]["item"] for record in records if record["type"] == "history"]
    assert list(read_rows(whole)) == rows
    assert len(rows) == 30
    assert segment.last == rows[-1]
    assert (segment.exit_code, segment.torn) == (0, False)


def test_a_torn_tail_is_read_up_to_the_tear(whole: Path, tmp_path: Path) -> None:
    content, rows = whole.read_bytes(), list(read_rows(whole))
    torn, lengths = tmp_path / whole.name, set()
    for length in (*range(8000, len(content), 301), *range(len(content) - 40, len(content))):
        torn.write_bytes(content[:length])
        read, segment = list(read_rows(torn)), read_segment(torn)
        assert read == rows[: len(read)]
        assert segment.last == (read[-1] if read else None)
        lengths.add(len(read))
    assert segment.torn
    assert segment.exit_code is None
    assert len(lengths) > 20


def test_damage_within_ends_the_reading(whole: Path, tmp_path: Path) -> None:
    content, damaged = bytearray(whole.read_bytes()), tmp_path / whole.name
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    read = list(read_rows(damaged))
    assert 0 < len(read) < 30
    assert read == list(read_rows(whole))[: len(read)]
    assert read_segment(damaged).torn


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"PK\x03\x04 something else", "not a log of W&B"),
        (b":W&B\xe1\xbe\x07", "another version"),
        (b"", "holds no run yet"),
        (wandb_file.FILE_HEADER[:5], "holds no run yet"),
    ],
)
def test_a_foreign_file_is_refused(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "run-a.wandb"
    path.write_bytes(content)
    with pytest.raises(NotALog, match=reason):
        read_segment(path)


def test_records_that_are_no_protobuf_are_refused(tmp_path: Path) -> None:
    payload = b"\x8a\x01\x7f"  # a run of 127 bytes that are not there
    checksum = zlib.crc32(b"\x01" + payload)
    path = tmp_path / "run-a.wandb"
    path.write_bytes(wandb_file.FILE_HEADER + struct.pack("<IHB", checksum, len(payload), 1) + payload)
    with pytest.raises(NotALog, match="damaged"):
        read_segment(path)

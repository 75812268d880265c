"""Damaged logs of W&B, copies of projects and snapshots: skipped with one warning; another project's copy stays."""

import json
import os
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

sys.path.insert(0, str(Path(__file__).parent.parent / "results"))
from logged_runs import config_of, last
from wandb.proto.wandb_internal_pb2 import Record

from results.figures.snapshots import DamagedSnapshot, epochs, read
from results.requests import parse
from results.sources import mirror, online
from results.sources.choice import load
from results.sources.sync import sync
from results.sources.wandb_file import FILE_HEADER, FULL
from sparse_rnn.core.errors import ConfigError

FINAL = last(1)


class Raw(str):
    """A value that is written as it is, whether it is JSON or not."""


def frame(record: Any) -> bytes:
    """A record as a whole frame, with a right checksum."""
    payload = record.SerializeToString()
    return struct.pack("<IHB", zlib.crc32(bytes([FULL]) + payload), len(payload), FULL) + payload


def log(config: dict[str, Any], *rows: dict[str, Any], run_id: str = "bad") -> bytes:
    """A log of W&B."""
    begin = Record()
    begin.run.run_id = run_id
    for key, value in config.items():
        item = begin.run.config.update.add()
        item.key, item.value_json = key, value if isinstance(value, Raw) else json.dumps(value)
    content = FILE_HEADER + frame(begin)
    for row in rows:
        record = Record()
        for key, value in row.items():
            item = record.history.item.add()
            item.key, item.value_json = key, value if isinstance(value, Raw) else json.dumps(value)
        content += frame(record)
    return content


RIGHT = config_of()
LOGS = {
    "zeros": b"\0" * 5000,
    "zeros after the header": FILE_HEADER + b"\0" * 5000,
    "garbage": bytes(range(256)) * 40,
    "a configuration that is no JSON": log(RIGHT | {"model": Raw("{")}, FINAL),
    "a configuration that is deep": log(RIGHT | {"model": Raw("[" * 9000 + "]" * 9000)}, FINAL),
    "a model that is a list": log(RIGHT | {"model": [1]}, FINAL),
    "a model without a name": log(RIGHT | {"model": {}}, FINAL),
    "no training": log({key: value for key, value in RIGHT.items() if key != "training"}, FINAL),
    "no environment": log(RIGHT | {"record": {"schema": 2}}, FINAL),
    "an environment that is a list": log(RIGHT | {"record": {"schema": 2, "environment": [1]}}, FINAL),
    "a step that is null": log(RIGHT, {"step": None}),
    "a step that is a list": log(RIGHT, {"step": [1]}),
    "a step that is no JSON": log(RIGHT, {"step": Raw("{")}),
    "a result that is a text": log(RIGHT, FINAL | {"best/valid/loss": "x"}),
    "a time without end": log(RIGHT, FINAL | {"clock/finished": 1e300}),
}


def good(folder: Path) -> None:
    """A whole run beside the damaged one."""
    path = folder / "good" / "wandb" / "offline-run-1" / "run-good.wandb"
    path.parent.mkdir(parents=True)
    path.write_bytes(log(RIGHT, FINAL, run_id="good"))


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "content", [*LOGS.values(), "fifo", "folder", "device"], ids=[*LOGS, "fifo", "folder", "device"]
)
def test_a_damaged_log_is_one_problem(content, tmp_path):
    good(tmp_path)
    path = tmp_path / "bad" / "wandb" / "offline-run-1" / "run-bad.wandb"
    path.parent.mkdir(parents=True)
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(path) if content == "fifo" else path.mkdir()
    for _ in ("read", "from the index"):
        logs = load(str(tmp_path))
        assert list(logs.runs) == ["good"]
        assert [str(path) in problem for problem in logs.problems] == [True]
        assert "\n" not in logs.problems[0]
    assert len(logs.frame) == 1


INDICES = {
    "a list": "[]",
    "files of numbers": '{"version": 1, "files": {"good/wandb/offline-run-1/run-good.wandb": 7}}',
    "files a list": '{"version": 1, "files": [1]}',
    "deep": "[" * 100_000,
}


@pytest.mark.parametrize("content", INDICES.values(), ids=list(INDICES))
def test_a_damaged_index_is_made_anew(content, tmp_path):
    good(tmp_path)
    (tmp_path / ".results").mkdir()
    (tmp_path / ".results" / "index.json").write_text(content)
    assert list(load(str(tmp_path)).runs) == ["good"]
    kept = json.loads((tmp_path / ".results" / "index.json").read_text())
    (entry,) = kept["files"].values()
    entry["segment"]["config"] = [1]
    (tmp_path / ".results" / "index.json").write_text(json.dumps(kept))
    assert list(load(str(tmp_path)).runs) == ["good"]
    (tmp_path / ".results" / "index.json").unlink()
    os.mkfifo(tmp_path / ".results" / "index.json")
    assert list(load(str(tmp_path)).runs) == ["good"]


def head(**changes: Any) -> dict[str, Any]:
    """The first line of a copy."""
    link = "https://wandb.ai/team/papers/runs/a"
    return {"version": 1, "stamp": 1, "state": "finished", "link": link, "config": RIGHT, "last": FINAL, **changes}


COPIES = {
    "zeros": b"\0" * 100,
    "a list": b"[]\n",
    "a link of 7": json.dumps(head(link=7)).encode() + b"\n",
    "a configuration that is a list": json.dumps(head(config=[])).encode() + b"\n",
    "no state": json.dumps({k: v for k, v in head().items() if k != "state"}).encode() + b"\n",
    "a last row that is a list": json.dumps(head(last=[1])).encode() + b"\n",
    "a last row without results": json.dumps(head(last=FINAL | {"best/valid/loss": None})).encode() + b"\n",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("content", [*COPIES.values(), "fifo"], ids=[*COPIES, "fifo"])
def test_a_damaged_copy_is_one_problem(content, tmp_path):
    mirror.write(tmp_path, "good", {k: v for k, v in head().items() if k != "version"}, [FINAL])
    os.mkfifo(tmp_path / "bad.jsonl") if content == "fifo" else (tmp_path / "bad.jsonl").write_bytes(content)
    logs = load(f"mirror:{tmp_path}")
    assert list(logs.runs) == ["good"]
    assert ["bad.jsonl is skipped: " in problem for problem in logs.problems] == [True]


def test_a_row_of_a_copy_that_is_damaged_is_a_sentence(tmp_path):
    (tmp_path / "bad.jsonl").write_text(json.dumps(head()) + "\nnull\n")
    run = load(f"mirror:{tmp_path}").runs["bad"]
    with pytest.raises(ConfigError, match=r"The log in https://\S+ cannot be read: a row in it is damaged"):
        run.read()


class Project:
    """W&B's API for a project that holds one run."""

    def runs(self, project: str) -> list[Any]:
        return []


@pytest.mark.parametrize("known", [{"project": "team/papers"}, {}], ids=["today's", "an early copy"])
def test_the_copy_of_another_project_is_not_deleted(known, tmp_path, monkeypatch):
    monkeypatch.setattr(online, "connect", lambda project: Project())
    mirror.write(tmp_path, "a", {**{k: v for k, v in head().items() if k != "version"}, **known}, [FINAL])
    before = (tmp_path / "a.jsonl").read_bytes()
    with pytest.raises(
        ConfigError, match=r"holds the copy of team/papers, not of team/others: give another .* --out\."
    ):
        online.fetch("team/others", tmp_path)
    assert (tmp_path / "a.jsonl").read_bytes() == before
    online.fetch("team/papers", tmp_path)  # from which the run was deleted
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("source", ["records:", "records: ", "mirror:", "wandb://"])
def test_an_incomplete_source_is_refused(source):
    with pytest.raises(ConfigError, match="is incomplete: a source is one of"):
        load(parse("table", ["table2", "--source", source]).source)


@pytest.mark.parametrize("source", ["records", "records:", "records:x", "mirror:x", "wandb://a/b"])
def test_only_offline_logs_are_uploaded(source):
    with pytest.raises(ConfigError, match="sync uploads W&B's offline logs"):
        sync("a/b", source)


STATES = {"hidden/0": np.zeros((3, 4), np.float16)}
BITS = np.zeros(8, np.uint8)  # 16 x 4
SNAPSHOTS = {
    "a shape in words": ("many", BITS),
    "a shape of three": ("16x2x2", BITS),
    "a shape that is huge": ("99999999x99999999", BITS),
    "a negative shape": ("-16x-4", BITS),
    "a shape of zeros": ("0x4", BITS),
    "too few bits": ("16x4", BITS[1:]),
    "bits of other type": ("16x4", BITS.astype(np.float32)),
    "bits in two dimensions": ("16x4", BITS[None]),
    "other units": ("16x5", np.zeros(10, np.uint8)),
}


@pytest.mark.parametrize(("shape", "bits"), SNAPSHOTS.values(), ids=list(SNAPSHOTS))
def test_a_damaged_snapshot_is_a_sentence(shape, bits, tmp_path):
    tensors = {"mask/lstm.weight_hh_l0": np.ascontiguousarray(bits), **STATES}
    save_file(tensors, tmp_path / "epoch0001.safetensors", {"shape/lstm.weight_hh_l0": shape})
    with pytest.raises(DamagedSnapshot, match=r"epoch0001\.safetensors cannot be read as a snapshot: [^\n]+\.$"):
        read(tmp_path, 1)


@pytest.mark.timeout(60)
def test_foreign_files_and_fifos_among_snapshots(tmp_path):
    os.mkfifo(tmp_path / "epoch0002.safetensors")
    (tmp_path / "epochx.safetensors").write_text("")
    assert epochs(tmp_path) == [2]
    with pytest.raises(DamagedSnapshot, match="it is a FIFO"):
        read(tmp_path, 2)

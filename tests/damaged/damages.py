"""What a run's files can be instead of what they should be: each damage changes a run's folder."""

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

Damage = Callable[[Path], None]


def written(name: str, content: str | bytes) -> Damage:
    """A file with that content."""

    def damage(folder: Path) -> None:
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)

    return damage


def planted(name: str, kind: str) -> Damage:
    """Something that is no file in a file's place."""

    def damage(folder: Path) -> None:
        path = folder / name
        path.unlink(missing_ok=True)
        if kind == "fifo":
            os.mkfifo(path)
        elif kind == "folder":
            path.mkdir()
        elif kind == "device":
            path.symlink_to("/dev/zero")
        else:
            here = os.getcwd()
            os.chdir(folder)  # the name of a socket may have 100 characters only
            with socket.socket(socket.AF_UNIX) as made:
                made.bind(name)
            os.chdir(here)

    return damage


def changed(change: Callable[[dict[str, Any]], object], name: str = "record.json") -> Damage:
    """A record that was changed."""

    def damage(folder: Path) -> None:
        record = json.loads((folder / name).read_text())
        change(record)
        (folder / name).write_text(json.dumps(record))

    return damage


def in_rows(change: Callable[[list[bytes]], list[bytes]]) -> Damage:
    """Rows that were changed."""

    def damage(folder: Path) -> None:
        lines = (folder / "metrics.jsonl").read_bytes().splitlines(keepends=True)
        (folder / "metrics.jsonl").write_bytes(b"".join(change(lines)))

    return damage


def both(*damages: Damage) -> Damage:
    """One after the other."""

    def damage(folder: Path) -> None:
        for each in damages:
            each(folder)

    return damage


STOPPED = changed(lambda record: record.update(status="stopped"))
UNREADABLE = {
    "a list": written("record.json", "[]"),
    "zeros": written("record.json", b"\0" * 4096),
    "garbage": written("record.json", bytes(range(256))),
    "cut": lambda folder: os.truncate(folder / "record.json", 300),
    "nested 100,000 deep": written("record.json", '{"config":' * 100_000 + "1" + "}" * 100_000),
    "nested 900 deep": written("record.json", '{"config":' * 900 + "1" + "}" * 900),
    "a number of many digits": written("record.json", '{"config": {}, "threads": ' + "9" * 6000 + "}"),
    "config a list": changed(lambda record: record.update(config=[1])),
    "config a text": changed(lambda record: record.update(config="x")),
    "environment a list": changed(lambda record: record.update(environment=[])),
    "results a number": changed(lambda record: record.update(results=7)),
    "status null": changed(lambda record: record.update(status=None)),
    "sizes of texts": changed(lambda record: record.update(sizes=["x"])),
    "threads a text": changed(lambda record: record.update(threads="1")),
    "a fifo": planted("record.json", "fifo"),
    "a folder": planted("record.json", "folder"),
    "a socket": planted("record.json", "socket"),
    "a device": planted("record.json", "device"),
}
OTHER_VERSIONS = {
    "an unknown key": changed(lambda record: record["config"]["model"].update(new=1)),
    "no growth": changed(lambda record: record["config"].pop("growth")),
    "no recipe": changed(lambda record: record["config"].pop("recipe")),
    "no training": changed(lambda record: record["config"].pop("training")),
    "growth a text": changed(lambda record: record["config"].update(growth="random")),
    "a model without a name": changed(lambda record: record["config"]["model"].pop("name")),
    "a model whose name is a list": changed(lambda record: record["config"]["model"].update(name=["x"])),
    "an unknown model": changed(lambda record: record["config"]["model"].update(name="x\x1b[31m")),
    "a size that is a text": changed(lambda record: record["config"]["model"].update(hidden="8")),
    "epochs that are a text": changed(lambda record: record["config"]["training"].update(epochs="4")),
    "an empty configuration": changed(lambda record: record.update(config={})),
}
WITHOUT = {
    "no results": changed(lambda record: record.pop("results")),
    "results that are texts": changed(lambda record: record.update(results={"valid/perplexity": "1"})),
}
ROWS = {
    "zeros": in_rows(lambda lines: [b"\0" * 4096]),
    "zeros within": in_rows(lambda lines: [lines[0][:9] + b"\0" * 99 + lines[0][9:], *lines[1:]]),
    "garbage": in_rows(lambda lines: [bytes(range(256)) * 9 + b"\n"]),
    "a broken line": in_rows(lambda lines: [lines[0][:20] + b"\n", *lines[1:]]),
    "a last line null": in_rows(lambda lines: [*lines, b"null\n"]),
    "a line that is deep": in_rows(lambda lines: [*lines, b"[" * 100_000 + b"]" * 100_000 + b"\n"]),
    "a step that is null": in_rows(lambda lines: [*lines, b'{"step": null, "epoch": 1}\n']),
    "an epoch without end": in_rows(lambda lines: [*lines, b'{"step": 1, "epoch": Infinity}\n']),
    "a value that is a list": in_rows(lambda lines: [*lines, b'{"step": 1, "epoch": 1, "x": [1]}\n']),
    "an empty line": in_rows(lambda lines: [*lines, b"\n"]),
    "a fifo": planted("metrics.jsonl", "fifo"),
    "a folder": planted("metrics.jsonl", "folder"),
    "a device": planted("metrics.jsonl", "device"),
}
RECORDS = UNREADABLE | OTHER_VERSIONS | WITHOUT
BOOKKEEPING = {
    f"{name}: {what}": both(STOPPED, written(name, content) if isinstance(content, str | bytes) else content)
    for name, cases in {
        "submission.json": {
            "a log of 7": '{"log": 7, "submitted": 1}',
            "a job that is a list": '{"job": [1], "submitted": 1}',
            "together of numbers": '{"job": "1_0", "together": [1], "cancelled": true}',
            "a list": "[1]",
            "zeros": b"\0" * 99,
            "deep": "[" * 100_000,
            "a fifo": planted("submission.json", "fifo"),
            "a folder": planted("submission.json", "folder"),
        },
        "attempts.json": {
            "kills that are a text": '{"kills": "x", "open": true}',
            "an error that is a list": '{"error": [1], "lost": {}}',
            "a text": '"x"',
            "a fifo": planted("attempts.json", "fifo"),
            "a device": planted("attempts.json", "device"),
        },
    }.items()
    for what, content in cases.items()
}
QUEUES = {
    "waiting a text": '{"waiting": "x"}',
    "waiting of numbers": '{"waiting": [1]}',
    "a job without overrides": '{"waiting": [{"run_id": "a"}]}',
    "working a list": '{"working": [1]}',
    "a process of texts": '{"working": {"a": {"pid": "x", "started": "1", "gpu": "", "cancelled": false}}}',
    "a worker that is a list": '{"worker": [1]}',
    "runs that are a text": '{"runs": "x"}',
    "a list": "[]",
    "zeros": b"\0" * 99,
    "deep": "[" * 100_000,
}

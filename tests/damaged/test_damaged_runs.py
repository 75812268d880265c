"""Each damage by each command: one warning that names the folder, and the rest goes on; nothing hangs."""

import importlib
import json
import os
import re
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SMALL = ("dataset=pydoc", "budget=smoke")
SWEEP = ("table6", *SMALL, "seeds=1")
Damage = Callable[[Path], None]


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *line: str) -> tuple[int, str, str]:
    """A command in this process: its exit code, stdout and stderr. What is no sentence is raised."""
    monkeypatch.setattr(sys, "argv", list(line))
    monkeypatch.setenv("HYDRA_FULL_ERROR", "0")
    module = f"{line[0]}.__main__" if line[0] in ("launch", "results") else f"sparse_rnn.{line[0]}"
    capsys.readouterr()
    try:
        importlib.import_module(module).main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0)
    told = capsys.readouterr()
    return code, told.out, told.err


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
SENT = '{"cluster": "local", "job": null, "submitted": 1}'


def victim(root: Path) -> Path:
    """The run that is damaged: the first of three."""
    return sorted(root.glob("*/record.json"))[0].parent


def params(table: dict[str, Damage]) -> Any:
    return pytest.mark.parametrize("damage", table.values(), ids=list(table))


def warned_once(stderr: str, folder: Path) -> None:
    """One warning, in one line, that names the folder and has nothing raw of the file."""
    warnings = [line for line in stderr.splitlines() if line.startswith("warning: ")]
    assert [folder.name in line for line in warnings] == [True], stderr
    assert stderr.replace("\n", "").isprintable()


@pytest.mark.timeout(60)
@params(RECORDS | {f"rows: {name}": both(STOPPED, damage) for name, damage in ROWS.items()} | BOOKKEEPING)
def test_the_launcher_goes_on_with_the_rest(damage, root, capsys, monkeypatch):
    folder = victim(root)
    for path in root.glob("*/record.json"):
        (path.parent / "submission.json").write_text(SENT)
    damage(folder)
    code, out, err = run(capsys, monkeypatch, "launch", "plan", *SWEEP)
    assert (code, "3 runs: " in out, out.count("finished ") >= 2) == (0, True, True)
    warned_once(err, folder)
    code, out, err = run(capsys, monkeypatch, "launch", "status", *SWEEP)
    assert (code, "2 finished" in out) == (0, True)
    warned_once(err, folder)
    code, out, err = run(capsys, monkeypatch, "launch", "status")  # without names a configuration is not compared
    assert (code, "3 runs: " in out, err.count("warning: ") <= 1) == (0, True, True)
    code, out, err = run(capsys, monkeypatch, "launch", "cancel", "--yes", *SWEEP)
    assert (code, out) == (0, "Nothing is queued or running.\n")
    warned_once(err, folder)


@pytest.mark.timeout(60)
@params(RECORDS | {f"rows: {name}": damage for name, damage in ROWS.items()})
def test_tables_go_on_with_the_rest(damage, root, capsys, monkeypatch):
    damage(victim(root))
    code, out, err = run(
        capsys, monkeypatch, "results", "table", *SWEEP, "--source", "records", "--allow-missing", "--format", "csv"
    )
    # Whether a record says what its run came to is of no matter here: its last row does.
    finished = 3 if damage in WITHOUT.values() else 2
    assert code == 0, err
    assert sum(line.split(",")[6] == "1" for line in out.splitlines() if ",test," in line) == finished
    if finished == 2:
        warned_once(err, victim_of(err, root))


def victim_of(err: str, root: Path) -> Path:
    """The folder that is named, which has to be one of the runs'."""
    return next(path for path in sorted(root.iterdir()) if path.name in err)


@pytest.mark.timeout(60)
@params(UNREADABLE | OTHER_VERSIONS)
@pytest.mark.parametrize("command", ["evaluate", "export", "extract", "generate"])
def test_a_command_for_the_run_ends_with_a_sentence(damage, command, root, capsys, monkeypatch):
    folder = victim(root)
    damage(folder)
    before = sorted(folder.iterdir())
    code, out, err = run(capsys, monkeypatch, command, f"run={folder}")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: [^\n]+\.\n", err)
    assert folder.name in err
    assert err[:-1].isprintable()
    assert sorted(folder.iterdir()) == before


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["fifo", "folder", "device", "socket"])
@pytest.mark.parametrize(("name", "weights"), [("best.safetensors", "best"), ("checkpoint.pt", "raw")])
def test_weights_that_are_no_file_are_a_sentence(kind, name, weights, root, capsys, monkeypatch):
    folder = victim(root)
    planted(name, kind)(folder)
    for command in ("evaluate", "export"):
        code, _, err = run(capsys, monkeypatch, command, f"run={folder}", f"weights={weights}")
        assert code > 0
        assert re.fullmatch(r"error: [^\n]+\.\n", err)
        assert name in err


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    "content", [*QUEUES.values(), "fifo", "folder", "device"], ids=[*QUEUES, "fifo", "folder", "device"]
)
def test_a_damaged_queue_is_one_warning(content, root, capsys, monkeypatch):
    folder = root / ".launch" / "local" / socket.gethostname()
    folder.mkdir(parents=True)
    make = planted if content in ("fifo", "folder", "device") else written
    make("queue.json", content)(folder)
    (victim(root) / "submission.json").write_text(SENT)
    for line in (("plan", *SWEEP), ("status",), ("cancel", "--yes")):
        code, _, err = run(capsys, monkeypatch, "launch", *line)
        assert code == 0
        warned_once(err, folder)


def test_a_queue_of_another_version_is_read(root, capsys, monkeypatch):
    folder = root / ".launch" / "local" / socket.gethostname()
    folder.mkdir(parents=True)
    (folder / "queue.json").write_text('{"runs": 2, "colour": "red", "waiting": [], "working": {}, "worker": {}}')
    assert run(capsys, monkeypatch, "launch", "plan", *SWEEP)[::2] == (0, "")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["fifo", "folder", "device"])
def test_a_log_that_is_no_file_is_a_sentence_and_others_are_shown(kind, root, capsys, monkeypatch):
    folder = victim(root)
    other = next(path.parent for path in sorted(root.glob("*/record.json")) if path.parent != folder)
    planted("log.txt", kind)(folder)
    (other / "log.txt").write_text("one\x1b[31m\ttwo\rthree\n")
    code, out, err = run(capsys, monkeypatch, "launch", "logs", folder.name)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: [^\n]+log\.txt cannot be used [^\n]+\.\n", err)
    assert run(capsys, monkeypatch, "launch", "logs", other.name)[:2] == (0, "one\\x1b[31m\ttwo\nthree\n")


@pytest.mark.parametrize("name", ["", ".", "/", "../"])
def test_no_run_has_no_log(name, root, capsys, monkeypatch):
    code, _, err = run(capsys, monkeypatch, "launch", "logs", name)
    assert code == 2
    assert re.fullmatch(r"error: (Which run\? |\.\. was never sent)[^\n]*\.\n", err)


def test_what_a_file_says_is_shown_without_its_escape_sequences(root, capsys, monkeypatch):
    folder = victim(root)
    nasty = "\x1b]0;owned\x07\x1b[31mred\nsecond line\u202e\ud800"
    changed(lambda record: record.update(status="failed", error=nasty))(folder)
    (folder / "submission.json").write_text(json.dumps({"log": str(root / "a\x1b[2Jb.log"), "submitted": 1}))
    (root / "a\x1b[2Jb.log").write_text("x\n")
    for line in (("plan", *SWEEP), ("status",)):
        code, out, err = run(capsys, monkeypatch, "launch", *line)
        assert (code, err) == (0, "")
        assert r"\x1b]0;owned\x07\x1b[31mred\nsecond line\u202e\ud800" in out
        assert r"a\x1b[2Jb.log" in out
        assert out.replace("\n", "").isprintable()


@pytest.mark.parametrize("command", ["evaluate", "export", "extract", "generate"])
def test_a_sentence_has_no_line_break_of_the_user(command, root, capsys, monkeypatch):
    code, _, err = run(capsys, monkeypatch, command, "run=x\ny\x1b[31m")
    assert code == 2
    assert err.startswith(r"error: run=x\ny\x1b[31m does not exist")
    assert err.count("\n") == 1


def test_describe_needs_no_run(root, capsys, monkeypatch):
    planted("record.json", "fifo")(victim(root))
    code, out, err = run(capsys, monkeypatch, "describe", "model=rhn", "budget=smoke")
    assert (code, err) == (0, "")
    assert "parameters active" in out

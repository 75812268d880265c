"""Each damage by each command: one warning that names the folder, and the rest goes on; nothing hangs."""

import importlib
import json
import re
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
from damages import (
    BOOKKEEPING,
    OTHER_VERSIONS,
    QUEUES,
    RECORDS,
    ROWS,
    STOPPED,
    UNREADABLE,
    WITHOUT,
    Damage,
    both,
    changed,
    planted,
    written,
)

from sparse_rnn.core import command_line

SMALL = ("dataset=pydoc", "budget=smoke")
SWEEP = ("table6", *SMALL, "seeds=1")


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


@pytest.mark.timeout(120)
def test_no_key_of_a_record_is_taken_for_granted(root, capsys, monkeypatch):
    """Of a finished run and of one that stopped: without a key, or with null in its place, the rest goes on."""
    folder = victim(root)
    finished = json.loads((folder / "record.json").read_text())
    damaged = []
    for record in (finished, {**finished, "status": "stopped"}):
        for key in record:
            damaged += [{other: value for other, value in record.items() if other != key}, {**record, key: None}]
    for record in damaged:
        (folder / "record.json").write_text(json.dumps(record))
        monkeypatch.setattr(command_line, "_warned", set())
        code, out, err = run(capsys, monkeypatch, "launch", "plan", *SWEEP)
        assert (code, "3 runs: " in out, "Traceback" in err) == (0, True, False), (record, err)
        table = ("table", *SWEEP, "--source", "records", "--allow-missing", "--format", "csv")
        code, _, err = run(capsys, monkeypatch, "results", *table)
        assert (code, "Traceback" in err) == (0, False), (record, err)

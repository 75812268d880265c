"""What commands print fits a terminal of 60 columns, and is not cut where there is no terminal."""

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios

import pytest

from launch import commands
from launch.plan import Plan
from launch.requests import Entry, Request
from launch.states import RunStatus
from sparse_rnn import demo
from sparse_rnn.data.content import data_root

pytestmark = pytest.mark.processes

COLUMNS = 60
DESCRIBE = [sys.executable, "-m", "sparse_rnn.describe", "model=stacked_lstm", "sparsifier=selfish"]


def on_a_terminal(command: list[str], columns: int) -> list[str]:
    """The lines that a command prints on a terminal."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"} | {"TERM": "xterm"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    while True:
        try:
            shown += os.read(ours, 65536)
        except OSError:  # the other end is closed
            break
    os.close(ours)
    assert process.wait() == 0
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).split("\r\n")


def test_describe_on_a_narrow_terminal() -> None:
    lines = on_a_terminal(DESCRIBE, COLUMNS)
    assert max(map(len, lines)) <= COLUMNS
    at = lines.index("lstm.weight_ih_l0")
    assert lines[at + 1].rstrip() == "  6000 x 1500, 0.6700, 2,970,000 active"
    assert " ".join(" ".join(lines).split()).endswith("2.36e10 for a minibatch in the test (0.330)")


@pytest.mark.parametrize("piped", [False, True])
def test_describe_is_a_table_where_there_is_room(piped: bool) -> None:
    if piped:  # where nobody wraps lines
        lines = subprocess.run(DESCRIBE, capture_output=True, text=True, check=True).stdout.splitlines()
    else:
        lines = on_a_terminal(DESCRIBE, 130)
    row = r" lstm\.weight_ih_l0 +6000 x 1500 +input 0-1499 .*output 4500-5999 +0\.6700 +2,970,000 "
    assert any(re.fullmatch(row, line) for line in lines)


@pytest.mark.parametrize(("columns", "length"), [(200, 40), (75, 40), (60, 25), (20, 8)])
def test_bars_of_the_demo_fit(columns: int, length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    name = "lstm.weight_ih_l0/forget"
    assert demo.bar_width([name]) == length
    [line] = demo.bar_lines({name: 0.33}, 0.33, length)
    assert len(line) == len(f"  {name}    0.330") + length


def test_status_watch_cuts_no_reason_off_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reason = "The training loss became inf in epoch 1, step 3: lower optimizer.lr or training.clip. " * 3
    status = RunStatus("failed", reason)
    plan = Plan([Entry("run", "", "")], {"run": status})
    monkeypatch.setattr(commands, "sent_before", lambda *_: plan.entries)
    monkeypatch.setattr(commands, "make_plan", lambda *_: plan)
    commands.status(Request("status", flags=frozenset({"--watch"})))
    assert capsys.readouterr().out == f"  failed   run\n           {reason}\n1 run: 1 failed\n"


def test_a_folder_named_by_a_tilde_is_in_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anybody")
    monkeypatch.setenv("SPARSE_RNN_DATA", "~/data")
    assert str(data_root()) == "/home/anybody/data"

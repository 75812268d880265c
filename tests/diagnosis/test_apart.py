"""Checks that end their process, or block it, are findings, and the others go on."""

import pytest

from sparse_rnn.diagnosis.apart import CHECKS, examine_apart
from sparse_rnn.diagnosis.finding import State


def broken_torch(monkeypatch, tmp_path, text):
    """A torch that does this when it is imported, found by the other process only."""
    (tmp_path / "torch.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGILL)", "its process was ended by SIGILL"),
        ("import os; os._exit(7)", "its process ended with code 7"),
        ("print('noise'); raise OSError('libcudart.so is missing')", "OSError: libcudart.so is missing"),
    ],
)
def test_every_check_that_imports_a_broken_torch_says_so(monkeypatch, tmp_path, text, found):
    broken_torch(monkeypatch, tmp_path, text)
    checks = {name: CHECKS[name] for name in ("device", "compiler")}
    assert [(each.name, each.text, each.state) for each in examine_apart(checks)] == [
        ("device", found, State.FAILED),
        ("compiler", found, State.NOTE),
    ]


def test_a_check_that_does_not_come_back(monkeypatch, tmp_path):
    broken_torch(monkeypatch, tmp_path, "import time; time.sleep(60)")
    [found] = examine_apart({"device": CHECKS["device"]}, seconds=2)
    assert (found.text, found.state) == ("no answer in 2 s", State.FAILED)


def test_a_process_that_cannot_be_started(monkeypatch):
    monkeypatch.setattr("sys.executable", "/none")
    assert [each.name for each in examine_apart()] == [*CHECKS]
    assert {each.text for each in examine_apart()} == {"no process can be started (No such file or directory)"}

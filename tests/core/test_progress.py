"""Bars for work that takes long: on a terminal alone, and gone when it is over."""

import io
import sys
from contextlib import contextmanager

import pytest

from sparse_rnn.core.progress import bar, tracked


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@contextmanager
def on_a_terminal():
    """Within it stderr is a terminal; a fixture would be too early, since pytest sets stderr anew for the test."""
    stream = Terminal()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        patch.setenv("TERM", "xterm")
        yield stream


def test_on_a_terminal_the_bar_shows_share_and_time_left():
    with on_a_terminal() as terminal:
        assert list(tracked([1, 2, 3, 4], "counting")) == [1, 2, 3, 4]
    written = terminal.getvalue()
    assert "counting" in written
    assert "100%" in written
    assert "0:00:00" in written
    assert written.rstrip().endswith("\x1b[2K")  # the line is cleared


def test_elsewhere_nothing_is_written(monkeypatch):
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    with bar("counting", 2) as advance:
        advance(1)
    assert list(tracked("ab", "counting")) == ["a", "b"]
    assert stream.getvalue() == ""


@pytest.mark.parametrize("total", [None, 4])
def test_an_error_ends_the_bar_and_comes_through(total):
    with on_a_terminal() as terminal, pytest.raises(ZeroDivisionError), bar("counting", total) as advance:
        advance(1 / 0)
    assert "\x1b[?25h" in terminal.getvalue()  # the cursor is back


def test_long_work_has_a_bar(tmp_path):
    """Reading records, composing runs and evaluating, each by what a command calls."""
    from results.sources import records
    from sparse_rnn.inference.evaluate import _evaluated
    from sparse_rnn.tables.catalogue import Catalogue

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "record.json").write_text("{}")

    class Task:
        def in_order(self, split: str) -> list[int]:
            return [1, 2]

        def evaluate(self, split: str, between):
            between()
            between()
            return {"loss": 1.0}

    with on_a_terminal() as terminal:
        records.load(tmp_path)
        catalogue = Catalogue(tmp_path)
        with catalogue.expecting(1):
            catalogue.facts(["dataset=pydoc", "budget=smoke"])
        assert _evaluated(Task(), "valid") == {"loss": 1.0}
    written = terminal.getvalue()
    for words in ("reading records", "composing runs", "evaluating valid"):
        assert words in written

"""A record tells how fast a run was, and on what."""

from pathlib import Path

import pytest
from run_helpers import Train, folder_of, record_of
from stopping import stop_at

EPOCH = 4 * 149  # tokens: of 600 in four columns, the last row is only predicted


def test_a_run_that_is_not_disturbed(tiny: list[str], train_here: Train) -> None:
    found = record_of(train_here(tiny))
    assert found["tokens_per_second"] * found["seconds"] == pytest.approx(4 * EPOCH)
    assert found["environment"]["device_name"]
    assert found["device"] == "cpu"


def test_a_run_that_is_stopped_and_resumes(
    tiny: list[str], root: Path, train_here: Train, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the stop: two epochs and seven windows of ten tokens of four columns; at the end: all four epochs."""
    seconds = []
    for moment, tokens in ((("train", 1, 3), 3 * 40), (("train", 3, 7), 2 * EPOCH + 7 * 40)):
        stop_at(monkeypatch, train_here, tiny, moment)
        stopped = record_of(folder_of(tiny, root))
        assert stopped["status"] == "stopped"
        assert stopped["tokens_per_second"] * stopped["seconds"] == pytest.approx(tokens)
        seconds.append(stopped["seconds"])
    finished = record_of(train_here(tiny))
    assert finished["tokens_per_second"] * finished["seconds"] == pytest.approx(4 * EPOCH)
    assert 0 < seconds[0] < seconds[1] < finished["seconds"]

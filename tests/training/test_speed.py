"""A record tells how fast a run was, and on what."""

from pathlib import Path
from typing import Any

import pytest
import torch
from run_helpers import Train, folder_of, record_of
from stopping import stop_at

from sparse_rnn.runs import record

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


def test_a_graphics_card_is_called_what_its_maker_calls_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"NVIDIA A100 {device.index}")
    assert record.device_name(torch.device("cuda:1")) == "NVIDIA A100 1"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("processor\t: 0\nmodel name\t: AMD EPYC 7B13\nmodel name\t: other\n", "AMD EPYC 7B13"),
        ("processor\t: 0\nBogoMIPS\t: 50.00\n", "aarch64"),
        (None, "aarch64"),
    ],
)
def test_a_processor_by_its_model_or_else_by_its_kind(
    monkeypatch: pytest.MonkeyPatch, text: str | None, name: str
) -> None:
    def read(path: Path, **named: Any) -> str:
        if text is None:
            raise FileNotFoundError(path)
        return text

    monkeypatch.setattr(Path, "read_text", read)
    monkeypatch.setattr(record.platform, "processor", lambda: "")
    monkeypatch.setattr(record.platform, "machine", lambda: "aarch64")
    assert record.device_name(torch.device("cpu")) == name

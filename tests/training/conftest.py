"""Fixtures of the run tests."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from run_helpers import Commands, Train, composed, folder_of, write_texts

from sparse_rnn.core import lock
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.training.session import train


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Overrides for a run that takes a fraction of a second."""
    return write_texts(tmp_path_factory.mktemp("texts"))


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh folder of runs."""
    monkeypatch.setenv("SPARSE_RNN_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def train_here(root: Path, monkeypatch: pytest.MonkeyPatch) -> Train:
    """Train in this process, by default without a logger; returns the run's folder. `into`: another folder of runs."""

    def trained(overrides: list[str], into: str | None = None) -> RunFolder:
        place = root.with_name(into) if into else root
        monkeypatch.setenv("SPARSE_RNN_RUNS", str(place))
        if not any(override.startswith("logger=") for override in overrides):
            overrides = [*overrides, "logger=files"]
        train(composed(overrides), overrides)
        return folder_of(overrides, place)

    return trained


@pytest.fixture
def commands(root: Path) -> Iterator[Commands]:
    """Training commands as real processes."""
    started = Commands(root)
    yield started
    started.kill_all()


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seconds become hundredths, roughly."""
    for name, seconds in (("HEARTBEAT", 0.05), ("STALE", 0.5), ("DAMAGED", 0.1), ("LOOK", 0.02), ("SETTLE", 0.02)):
        monkeypatch.setattr(lock, f"{name}_SECONDS", seconds)

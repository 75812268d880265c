"""What a run does for its device: losses read now and then, failures, moves, files written beside training."""

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, Mock

import pytest
import torch
from run_helpers import Train, composed, folder_of, record_of, rows_of
from stopping import poisoned_from, stop_at

from sparse_rnn.core.errors import ConfigError, DeviceLost
from sparse_rnn.core.tensor_files import read_tensors
from sparse_rnn.training import session
from sparse_rnn.training.checkpoint import on_host, sent_to_host
from sparse_rnn.training.session import changed_device, device_of
from sparse_rnn.training.tasks.language_modelling import LanguageModelling
from sparse_rnn.training.trainer import Trainer
from sparse_rnn.training.writer import Writer

CUDA = torch.device("cuda:0")


@pytest.fixture
def _read_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    due = property(lambda trainer: trainer.state.recent_steps >= trainer.run.logger.every)
    monkeypatch.setattr(Trainer, "sums_are_due", due)


@pytest.mark.parametrize("data", ["", "model=lstm_classifier dataset=pydoc_topics budget=smoke training.bptt=35"])
def test_how_often_losses_are_read_changes_no_number(
    tiny: list[str], train_here: Train, request: pytest.FixtureRequest, data: str
) -> None:
    overrides = [*tiny, "logger.every=4"] if not data else [*data.split(), "logger.every=4", "threads=1", "device=cpu"]
    every_step = train_here(overrides, "every step")
    request.getfixturevalue("_read_as_on_a_gpu")
    now_and_then = train_here(overrides)
    assert rows_of(now_and_then) == rows_of(every_step)
    assert record_of(now_and_then)["digest"] == record_of(every_step)["digest"]


@pytest.mark.usefixtures("_read_as_on_a_gpu")
def test_a_loss_read_late_is_reported_with_the_step_at_which_it_began(
    tiny: list[str], train_here: Train, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "Trainer", poisoned_from(21))
    with pytest.raises(ConfigError, match="loss became nan in epoch 2, step 22"):
        train_here([*tiny, "logger.every=5", "checkpoint.every_minutes=1000"])


@pytest.mark.usefixtures("_read_as_on_a_gpu")
def test_no_checkpoint_is_written_of_a_loss_that_is_not_a_number(
    tiny: list[str], train_here: Train, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class ToldToStop(poisoned_from(0)):  # type: ignore[misc]
        def train_step(self, batch: Any) -> None:
            super().train_step(batch)
            self.stop_requested = True

    monkeypatch.setattr(session, "Trainer", ToldToStop)
    overrides = [*tiny, "logger.every=100"]
    with pytest.raises(ConfigError, match="loss became nan in epoch 1, step 1"):
        train_here(overrides)
    assert not folder_of(overrides, root).checkpoint.exists()


def weights_epoch(path: Path) -> int:
    return int(read_tensors(path)[1]["epoch"])


class Crash(BaseException):
    """What nothing expects."""


def test_best_weights_of_a_lost_epoch_are_not_kept(
    tiny: list[str], train_here: Train, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after epoch 2 wrote its weights; repeated, with other rounding, that epoch is no longer the best."""
    overrides = [*tiny, "sparsifier=static_uniform", "training.epochs=2", "checkpoint.every_minutes=1000"]
    stop_at(monkeypatch, train_here, overrides, ("train", 2, 1))
    folder, original = folder_of(overrides, root), LanguageModelling.evaluate

    def crash(*_: Any) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "log_epoch", crash)
        with pytest.raises(Crash):
            train_here(overrides)
    assert weights_epoch(folder.next_best) == 2, "the test must be of a kill between the two files"
    assert weights_epoch(folder.best) == 1

    def worse(task: LanguageModelling, split: str, between: Callable[[], None]) -> dict[str, float]:
        return {**(found := original(task, split, between)), "loss": found["loss"] + 100 * (split == "valid")}

    monkeypatch.setattr(LanguageModelling, "evaluate", worse)
    train_here(overrides)
    assert record_of(folder)["results"]["best_epoch"] == weights_epoch(folder.best) == 1
    assert not folder.next_best.exists()


def test_best_weights_of_another_epoch_are_refused(
    tiny: list[str], train_here: Train, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(monkeypatch, train_here, [*tiny, "training.epochs=2"], ("test", 3, 1))
    folder = folder_of([*tiny, "training.epochs=2"], root)
    monkeypatch.setattr("sparse_rnn.training.trainer.load_weights", lambda *_: {"epoch": "7", "weights": "raw"})
    with pytest.raises(ConfigError, match=r"holds the weights of epoch 7, and the best epoch was \d: move its folder"):
        train_here([*tiny, "training.epochs=2"])
    assert record_of(folder)["status"] == "failed"


@pytest.mark.parametrize(
    ("error", "status", "sentence"),
    [
        ("CUDA error: CUBLAS_STATUS_ALLOC_FAILED", "failed", "Out of memory: lower training.batch"),
        ("CUDA error: uncorrectable ECC error encountered", "stopped", r"The GPU was lost \(CUDA error: uncorr"),
    ],
)
def test_a_failing_gpu_in_the_middle_of_a_run(
    tiny: list[str],
    train_here: Train,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: str,
    status: str,
    sentence: str,
) -> None:
    undisturbed = train_here(tiny, "undisturbed")

    class Failing(Trainer):
        def train_step(self, batch: Any) -> None:
            if self.state.step == 20:
                raise RuntimeError(error)
            super().train_step(batch)

    with monkeypatch.context() as patch:
        patch.setattr(session, "Trainer", Failing)
        with pytest.raises(ConfigError, match=sentence) as raised:
            train_here(tiny)
    assert isinstance(raised.value, DeviceLost) == (status == "stopped")
    record = record_of(folder_of(tiny, root))
    assert record["status"] == status
    assert record["error"] == str(raised.value)
    assert record_of(train_here(tiny))["digest"] == record_of(undisturbed)["digest"]


def environment(name: str, torch_version: str = "2.11.0") -> dict[str, Any]:
    return {"device_name": name, "packages": {"torch": torch_version}}


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (("cpu", "A"), ("cpu", "B"), ""),
        (("cuda:0", "H100"), ("cuda:1", "H100"), ""),
        (("cpu", "A"), ("cuda:0", "H100"), "a CPU with torch 2.11.0 and resumes on H100 with torch 2.11.0"),
        (("cuda:0", "A100"), ("cuda:0", "H100"), "A100 with torch 2.11.0 and resumes on H100 with torch 2.11.0"),
    ],
)
def test_a_move_to_another_kind_of_device_is_named(before: tuple[str, str], now: tuple[str, str], said: str) -> None:
    old = {"device": before[0], "environment": environment(before[1])}
    assert changed_device(old, environment(now[1]), now[0]) == said


def test_a_move_to_another_torch_is_warned_of(
    tiny: list[str], train_here: Train, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop_at(monkeypatch, train_here, tiny, ("train", 2, 3))
    path = folder_of(tiny, root).record
    record = json.loads(path.read_text())
    record["environment"]["packages"]["torch"] = "2.0.0"
    path.write_text(json.dumps(record))
    capsys.readouterr()
    train_here(tiny)
    here = torch.__version__
    assert (
        f"warning: this run started on a CPU with torch 2.0.0 and resumes on a CPU with torch {here}: its numbers will "
        "not be bit for bit those of an uninterrupted run"
    ) in " ".join(capsys.readouterr().out.split())


def test_the_kernels_take_the_cpu_of_a_machine_with_a_gpu(tiny: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    run = composed([*tiny, "sparsifier.backend=sparse", "device=auto"])
    assert device_of(run) == torch.device("cpu")


@pytest.mark.parametrize("key", ["fused", "graph"])
def test_what_needs_a_gpu_is_refused_on_a_cpu(tiny: list[str], train_here: Train, root: Path, key: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"^training\.{key}=on needs a GPU, and device=cpu: use training\.{key}=auto\.$"
    ):
        train_here([*tiny, f"training.{key}=on"])
    assert not root.exists()


def test_files_are_written_in_order_beside_training() -> None:
    writer, go_on, written = Writer(CUDA), threading.Event(), list[str]()

    def slowly() -> None:
        go_on.wait(10)
        written.append("first")

    writer.submit(slowly)
    writer.submit(lambda: written.append("second"))
    assert not written, "training goes on meanwhile"
    go_on.set()
    writer.wait()
    assert written == ["first", "second"]


def test_a_file_that_cannot_be_written_stops_the_run() -> None:
    def fail() -> None:
        raise OSError("No space left on device")

    writer = Writer(CUDA)
    writer.submit(fail)
    with pytest.raises(OSError, match="No space left"):
        writer.wait()
    with pytest.raises(OSError, match="No space left"):
        Writer(torch.device("cpu")).submit(fail)


def test_a_state_is_copied_on_a_stream_that_no_step_is_recorded_on(monkeypatch: pytest.MonkeyPatch) -> None:
    recorded, other = Mock(name="recorded"), Mock(name="other")
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: recorded)
    monkeypatch.setattr(torch.cuda, "Stream", Mock(side_effect=[recorded, other]))
    monkeypatch.setattr(torch.cuda, "stream", entered := MagicMock())
    copied, arrived = sent_to_host({"w": torch.ones(2)}, CUDA)
    entered.assert_called_once_with(other)
    other.wait_stream.assert_called_once_with(recorded)
    recorded.wait_stream.assert_called_once_with(other)
    assert arrived is other.record_event()
    assert torch.equal(copied["w"], torch.ones(2))


def test_what_is_written_beside_training_is_a_copy() -> None:
    weight = torch.ones(3)
    copied = on_host({"model": {"w": weight}, "hidden": [(weight, weight)], "step": 3, "none": None})
    weight.zero_()
    assert copied["step"] == 3
    assert copied["none"] is None
    assert torch.equal(copied["model"]["w"], torch.ones(3))
    assert isinstance(copied["hidden"][0], tuple)
    assert torch.equal(copied["hidden"][0][1], torch.ones(3))

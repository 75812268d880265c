"""SIGTERM, Ctrl-C and SLURM's SIGUSR2."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import psutil
import pytest
from run_helpers import Commands, Train, folder_of, lines_in, record_of, rows_of, wait_until
from wandb_files import exit_codes, segments

from sparse_rnn.training.checkpoint import load_checkpoint
from sparse_rnn.training.trainer import Trainer

pytestmark = pytest.mark.processes


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR2, 140)])
def test_stops_at_a_step_saves_and_resumes(
    tiny: list[str], commands: Commands, train_here: Train, number: int, code: int
) -> None:
    overrides = [*tiny, "training.epochs=12", "checkpoint.every_minutes=1000", "logger=wandb"]
    undisturbed = train_here([*overrides, "logger=files"], "undisturbed")
    folder = folder_of(overrides, commands.root)
    process = commands.start(overrides)
    wait_until(lambda: lines_in(folder.metrics))
    os.killpg(process.pid, number)  # as a terminal does, and SLURM
    process.join(60)
    assert process.exitcode == code
    stopped = [line for line in commands.said.splitlines() if line.startswith("Stopped after step ")]
    assert len(stopped) == 1
    assert stopped[0].endswith("saved: run the same command again to resume.")
    assert "Traceback" not in commands.said
    assert record_of(folder)["status"] == "stopped"
    assert not folder.lock.exists()
    step = int(stopped[0].removeprefix("Stopped after step ").partition(",")[0])
    assert [exit_codes(segment) for segment in segments(folder)] == [[0]]
    code, said = commands.run([*overrides, "logger=files"])
    assert code == 0
    assert f"Resuming after step {step}." in said
    assert record_of(folder)["digest"] == record_of(undisturbed)["digest"]
    assert rows_of(folder) == rows_of(undisturbed)


def test_signals_that_come_again_while_the_run_saves_do_not_end_it() -> None:
    """SLURM sends SIGTERM to every process of a step, and the supervisor among them hands it on."""
    code = (
        "import os, signal\n"
        "from sparse_rnn.training.signals import stop_on_signals\n"
        "class Trainer: stop_requested, stop_signal = False, 0\n"
        "trainer = Trainer()\n"
        "with stop_on_signals(trainer):\n"
        "    for number in (signal.SIGTERM, signal.SIGTERM, signal.SIGUSR2):\n"
        "        os.kill(os.getpid(), number)\n"
        "    print(trainer.stop_requested, trainer.stop_signal == signal.SIGTERM)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("True True\n", 0)


@pytest.fixture
def _in_the_foreground() -> Iterator[None]:
    """A shell without job control lets what it starts in the background ignore Ctrl-C."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_in_the_foreground")
def test_second_ctrl_c_in_a_step_ends_at_once(
    tiny: list[str], train_here: Train, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = train_here(tiny, "undisturbed")
    train_step = Trainer.train_step

    def pressed_twice(trainer: Trainer, batch: Any) -> None:
        if trainer.state.step == 20:
            signal.raise_signal(signal.SIGINT)
            assert trainer.stop_requested
            signal.raise_signal(signal.SIGINT)
            raise AssertionError("the step went on")
        train_step(trainer, batch)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", pressed_twice)
        with pytest.raises(SystemExit) as end:
            train_here(tiny)
    assert end.value.code == 130
    folder = folder_of(tiny, root)
    assert not folder.lock.exists()
    assert record_of(train_here(tiny))["digest"] == record_of(undisturbed)["digest"]


def test_wandb_process_killed_with_ours(tiny: list[str], commands: Commands, train_here: Train) -> None:
    """scancel signals every process of a job, W&B's too."""
    overrides = [*tiny, "training.epochs=12", "logger=wandb"]
    folder = folder_of(overrides, commands.root)
    process = commands.start(overrides)
    wait_until(lambda: lines_in(folder.metrics))
    os.kill(process.pid, signal.SIGSTOP)
    for child in psutil.Process(process.pid).children(recursive=True):
        child.kill()
    os.kill(process.pid, signal.SIGCONT)
    process.join(60)
    assert process.exitcode == 0
    assert commands.said.count("warning: W&B has failed") == 1
    assert "Traceback" not in commands.said
    assert record_of(folder)["status"] == "finished"
    undisturbed = train_here([*overrides, "logger=files"], "undisturbed")
    assert record_of(folder)["digest"] == record_of(undisturbed)["digest"]


@pytest.fixture(params=[signal.SIGUSR2, signal.SIGTERM, signal.SIGINT])
def others(request: pytest.FixtureRequest) -> Iterator[int]:
    """A signal that somebody else may handle; afterwards its handler is what it was."""
    before = signal.getsignal(request.param)
    yield request.param
    signal.signal(request.param, before)


def test_anothers_handler_is_called_once_all_is_saved(
    tiny: list[str], train_here: Train, root: Path, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    overrides = [*tiny, "sparsifier=rigl", "checkpoint.every_minutes=1000"]
    undisturbed, folder = train_here(overrides, "undisturbed"), folder_of(overrides, root)
    moments: list[tuple[int, int, bool]] = []
    calls: list[int] = []

    def handler(number: int, frame: FrameType | None) -> None:
        saved = load_checkpoint(folder.checkpoint)
        assert saved is not None
        assert number == others
        assert record_of(folder)["status"] == "stopped"
        calls.append(saved["state"]["step"])

    stop_if_requested = Trainer.stop_if_requested

    def signalled(trainer: Trainer) -> None:
        moment = (trainer.state.step, trainer.state.epoch, trainer.model.training)
        if moment[0] in (7, 15, 45, 60) and moment not in moments:
            moments.append(moment)
            os.kill(os.getpid(), others)
            os.kill(os.getpid(), others)
        stop_if_requested(trainer)

    signal.signal(others, handler)
    monkeypatch.setattr(Trainer, "stop_if_requested", signalled)
    assert record_of(train_here(overrides))["digest"] == record_of(undisturbed)["digest"]
    assert rows_of(folder) == rows_of(undisturbed)
    assert record_of(folder)["status"] == "finished"
    assert moments[0] == (7, 0, True)
    assert moments[-3:] == [(60, 3, True), (60, 3, False), (60, 4, False)]  # a step, validation, the final test
    assert calls == [step for step, _, _ in moments for _ in range(2)]
    assert signal.getsignal(others) is handler


def test_anothers_handler_that_exits_ends_the_run_as_stopped(
    tiny: list[str], train_here: Train, root: Path, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    undisturbed, folder = train_here(tiny, "undisturbed"), folder_of(tiny, root)
    signal.signal(others, lambda *_: sys.exit(7))
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "train_step", signalled_in_step(37, others))
        with pytest.raises(SystemExit) as end:
            train_here([*tiny, "checkpoint.every_minutes=1000"])
    assert end.value.code == 7
    assert record_of(folder)["status"] == "stopped"
    assert not folder.lock.exists()
    saved = load_checkpoint(folder.checkpoint)
    assert saved is not None
    assert saved["state"]["step"] == 38
    assert record_of(train_here(tiny))["digest"] == record_of(undisturbed)["digest"]


def signalled_in_step(step: int, *numbers: int) -> Any:
    """Trainer.train_step, with signals that come while the step after `step` others is done."""
    train_step = Trainer.train_step

    def stepped(trainer: Trainer, batch: Any) -> None:
        if trainer.state.step == step:
            for number in numbers:
                os.kill(os.getpid(), number)
        train_step(trainer, batch)

    return stepped


def test_ours_and_anothers_in_one_step_end_the_run(
    tiny: list[str], train_here: Train, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.signal(signal.SIGUSR2, lambda *_: pytest.fail("the run ends anyway"))
    try:
        monkeypatch.setattr(Trainer, "train_step", signalled_in_step(20, signal.SIGTERM, signal.SIGUSR2))
        with pytest.raises(SystemExit) as end:
            train_here(tiny)
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert end.value.code == 143
    assert record_of(folder_of(tiny, root))["status"] == "stopped"


def test_ignored_before_usr2_still_stops_the_run(
    tiny: list[str], train_here: Train, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    try:
        monkeypatch.setattr(Trainer, "train_step", signalled_in_step(20, signal.SIGUSR2, signal.SIGUSR2))
        with pytest.raises(SystemExit) as end:
            train_here(tiny)
        assert signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGUSR2, before)
    assert end.value.code == 140
    assert record_of(folder_of(tiny, root))["status"] == "stopped"

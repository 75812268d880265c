"""SIGTERM and Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from run_helpers import Commands, Train, folder_of, lines_in, record_of, rows_of, wait_until
from wandb_files import exit_codes, segments

from sparse_rnn.trainer import Trainer


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stops_at_a_step_saves_and_goes_on(
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
    assert stopped[0].endswith("saved: the same command goes on from there.")
    assert "Traceback" not in commands.said
    assert record_of(folder)["status"] == "stopped"
    assert not folder.lock.exists()
    step = int(stopped[0].removeprefix("Stopped after step ").partition(",")[0])
    assert [exit_codes(segment) for segment in segments(folder)] == [[1]]
    code, said = commands.run([*overrides, "logger=files"])
    assert code == 0
    assert f"Going on after step {step}." in said
    assert record_of(folder)["digest"] == record_of(undisturbed)["digest"]
    assert rows_of(folder) == rows_of(undisturbed)


def test_second_signal_ends_at_once() -> None:
    """Both signals arrive before the step is over: the first asks, the second ends."""
    code = (
        "import os, signal, sys, time\n"
        "from sparse_rnn.session import stopping_on_signals\n"
        "class Trainer: stop_requested, stop_signal = False, 0\n"
        "trainer, number = Trainer(), int(sys.argv[1])\n"
        "with stopping_on_signals(trainer):\n"
        "    os.kill(os.getpid(), number)\n"
        "    print(trainer.stop_requested, trainer.stop_signal == number, flush=True)\n"
        "    os.kill(os.getpid(), number)\n"
        "    time.sleep(60)\n"
    )
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code, str(int(signal.SIGTERM))], capture_output=True, text=True)
    assert done.stdout == "True True\n"
    assert done.returncode == -signal.SIGTERM
    assert time.monotonic() - started < 50


def test_second_ctrl_c_in_a_step_ends_at_once(
    tiny: list[str], train_here: Train, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = train_here(tiny, "undisturbed")
    train_step = Trainer.train_step

    def pressed_twice(trainer: Trainer, batch: Any) -> None:
        if trainer.state.step == 20:
            os.kill(os.getpid(), signal.SIGINT)
            assert trainer.stop_requested
            os.kill(os.getpid(), signal.SIGINT)
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

"""What a person sees."""

import io
import os
import pty
import re
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from rich.console import Console
from run_helpers import Commands, Train, folder_of, record_of

from sparse_rnn.core.wording import duration
from sparse_rnn.training.loggers import terminal as terminal_logger
from sparse_rnn.training.loggers.terminal import STEPS_BEFORE_ESTIMATE, Terminal

METRICS = {"loss": 5.0, "perplexity": 148.41}


class FakeClock:
    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(terminal_logger.time, "monotonic", fake.monotonic)
    return fake


def estimate(
    clock: FakeClock, capsys: pytest.CaptureFixture[str], seconds_left: float, *, cpu: bool, budget: str
) -> list[str]:
    """All lines of a run whose 21st step comes when it has `seconds_left` to go."""
    terminal, steps = Terminal(4, cpu, budget), 1000
    each = seconds_left / (steps - 20)
    for step in range(STEPS_BEFORE_ESTIMATE):
        terminal.step(0, step / steps, METRICS, 1000.0, 0.5)
        clock.now += each
    assert capsys.readouterr().out == ""
    for step in range(STEPS_BEFORE_ESTIMATE, STEPS_BEFORE_ESTIMATE + 10):
        terminal.step(0, step / steps, METRICS, 1000.0, 0.5)
        clock.now += each
    return capsys.readouterr().out.splitlines()


ADVICE = " on this CPU; budget=reduced is a size that a CPU trains in under an hour"


@pytest.mark.parametrize(
    ("seconds", "cpu", "budget", "line"),
    [
        (20, True, "paper", "This run will take about 20 s more."),
        (3600 * 5, True, "paper", "This run will take about 5 h 00 min more."),
        (86400 * 9.5, True, "paper", f"This run will take about 9.5 days more{ADVICE}."),
        (86400 * 9.5, False, "paper", "This run will take about 9.5 days more."),
        (86400 * 9.5, True, "reduced", "This run will take about 9.5 days more."),
    ],
)
def test_estimate_after_20_steps(
    clock: FakeClock, capsys: pytest.CaptureFixture[str], seconds: float, cpu: bool, budget: str, line: str
) -> None:
    assert estimate(clock, capsys, seconds, cpu=cpu, budget=budget) == [line]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.2, "1 s"), (29, "29 s"), (59.9, "1 min"), (90 * 60, "1 h 30 min"), (3 * 86400, "3.0 days")],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_plain_lines_elsewhere(tiny: list[str], train_here: Train, capsys: pytest.CaptureFixture[str]) -> None:
    train_here([*tiny, "sparsifier=rigl"])
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert "\r" not in said
    epochs = [line for line in said.splitlines() if line.startswith("epoch ")]
    assert len(epochs) == 4
    assert re.fullmatch(
        r"epoch +1/4  train +[\d.]+  valid +[\d.]+  sparsity 0\.6[67]\d\d  removal rate 0\.\d{3}  [\d,]+ tokens/s",
        epochs[0],
    )
    assert epochs[3].endswith("averaged")
    assert sum(line.startswith("This run will take about") for line in said.splitlines()) == 1


def test_bar_fits_80_columns() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=80, soft_wrap=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(terminal_logger, "Console", lambda **_: console)
        terminal = Terminal(100, True, "paper")
        terminal.step(6, 0.07, {"loss": 4.82, "perplexity": 123.97}, 12_345.0, 0.67)
        terminal.finish(0)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue()).replace("\r", "\n").splitlines()
    bar = [line for line in shown if "epoch 7/100" in line]
    assert bar
    for fact in ("7%", "loss 4.82", "perplexity 123.97", "12,345 tokens/s", "sparsity 0.67"):
        assert fact in "".join(shown)


def read_until(descriptor: int, done: Callable[[str], bool], seconds: float = 60) -> str:
    """What a terminal shows, until `done` with it or it closes."""
    shown, deadline = "", time.monotonic() + seconds
    while not done(shown):
        ready, _, _ = select.select([descriptor], [], [], deadline - time.monotonic())
        assert ready, "nothing came"
        try:
            shown += os.read(descriptor, 65536).decode(errors="replace")
        except OSError:  # the other end is closed
            break
    return shown


def test_bar_on_a_terminal(tiny: list[str], commands: Commands) -> None:
    ours, theirs = pty.openpty()
    overrides = [*tiny, "training.epochs=12", "logger=files"]
    process = commands.start(overrides, os.ttyname(theirs), TERM="xterm", COLUMNS="140")
    shown = read_until(ours, lambda text: "of training." in text)
    os.close(theirs)
    process.join(30)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown)
    assert re.search(
        r"epoch \d+/12 .* \d+% \d:\d\d:\d\d loss [\d.]+  perplexity [\d.,]+  [\d,]+ tokens/s  sparsity 0\.670", plain
    )
    assert "This run will take about" in plain
    assert shown.rindex("\x1b[?25h") > shown.index("\x1b[?25l")  # the cursor is back
    assert process.exitcode == 0


def test_a_reader_that_goes_away_does_not_end_the_run(tiny: list[str], commands: Commands) -> None:
    """As in `python -m sparse_rnn.train ... | head -1`."""
    overrides = [*tiny, "logger=files"]
    command = shlex.join([sys.executable, "-m", "sparse_rnn.train", *overrides]) + " | head -1"
    environment = {**os.environ, "SPARSE_RNN_RUNS": str(commands.root)}
    subprocess.run(["bash", "-c", command], check=True, env=environment, capture_output=True, timeout=120)
    assert record_of(folder_of(overrides, commands.root))["status"] == "finished"

"""The paper's own run in a limited time: stacked LSTM 1500 x 2, Penn Treebank, Selfish-RNN, as many epochs as fit.

Measures steps and the end of an epoch, chooses the number of epochs, and trains as the command does. Fewer epochs than
the paper's 100 have averaging forced, late: otherwise it would begin too late or never. metrics.jsonl, record.json and
plan.json, with the command and what was measured, are left in the folder.
"""

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.gpu.workload import VALID_TOKENS, Place, Workload, once_milliseconds, release, step_milliseconds
from sparse_rnn.core.command_line import guard
from sparse_rnn.core.device import make_device
from sparse_rnn.training.writer import Writer

RUN = ("model=stacked_lstm", "sparsifier=selfish", "protocol=official_code")
EPOCHS = 100
STEPS = 1328  # of an epoch on Penn Treebank: 929,589 tokens in 20 columns and windows of 35
TEST_TOKENS = 82_430
START, SPARE = 25.0, 0.03  # seconds until the first step; the share of the time that is left free
AVERAGED = 0.2  # the share of epochs whose weights are averaged, if the paper's number does not fit


@dataclass(frozen=True)
class Plan:
    """Milliseconds that were measured, and what follows from them for `seconds`."""

    seconds: float
    step_ms: float
    epoch_end_ms: float
    test_ms: float
    epochs: int
    average_by: float


def measured(place: Place, seconds: float, more: list[str]) -> Plan:
    """Take 200 steps and two ends of an epoch, and plan a run of so many seconds."""
    release(place)
    work = Workload(place, "stacked_lstm", *RUN[1:], *more, windows=400)
    step = step_milliseconds(place, work, 140, 1.0)
    work.trainer.writer = Writer(place.device)
    validation = [once_milliseconds(place, lambda: work.trainer.task.evaluate("valid")) for _ in range(2)]
    ends = [once_milliseconds(place, lambda: _end_epoch(work)) for _ in range(2)]
    work.trainer.writer.wait()
    training = work.run.training
    windows = TEST_TOKENS / training.test_batch / (VALID_TOKENS / training.valid_batch)  # per window of validation
    return plan(seconds, step, ends[-1], validation[-1] * windows)


def _end_epoch(work: Workload) -> None:
    trainer = work.trainer
    trainer.evaluate_and_keep_best()
    trainer.sparsifier.update(trainer.clock)


def plan(seconds: float, step_ms: float, epoch_end_ms: float, test_ms: float) -> Plan:
    """As many epochs as fit, at least one and at most the paper's."""
    epoch = (STEPS * step_ms + epoch_end_ms) / 1e3
    epochs = max(1, min(EPOCHS, int((seconds * (1 - SPARE) - START - test_ms / 1e3) / epoch)))
    averaged = 0 if epochs == EPOCHS else max(1, round(epochs * AVERAGED))
    average_by = max(1, epochs - averaged) / epochs
    return Plan(seconds, round(step_ms, 3), round(epoch_end_ms, 1), round(test_ms, 1), epochs, average_by)


def command(made: Plan, place: Place, more: list[str]) -> list[str]:
    """The training command."""
    size = ["dataset=pydoc", "budget=smoke"] if place.small else ["dataset=ptb"]
    # A little more than the exact share, since the epoch is rounded down from their product.
    late = [f"budget.average_by={min(1.0, made.average_by + 1e-6):.6f}"] if made.epochs < EPOCHS else []
    own = [f"device={place.device.type}", "logger=files", "sparsifier.backend=masked", f"training.epochs={made.epochs}"]
    return [sys.executable, "-m", "sparse_rnn.train", *RUN, *size, *own, *late, *more]


def train(line: list[str], deadline: float, out: Path) -> int:
    """Train until it is finished or time is over, when the run is asked to stop; returns its exit code."""
    with tempfile.TemporaryDirectory() as runs:
        started = subprocess.Popen(line, env=os.environ | {"SPARSE_RNN_RUNS": runs})
        try:
            code = started.wait(max(1.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            started.send_signal(signal.SIGTERM)
            code = started.wait(60)
        finally:
            for name in ("metrics.jsonl", "record.json"):
                for path in Path(runs).glob(f"*/{name}"):
                    shutil.copy(path, out / name)
        return code


def main() -> int:
    """Measure, plan, train; returns the exit code of training."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu.paper_run", description=__doc__)
    parser.add_argument("--seconds", type=float, default=570.0, help="for everything")
    parser.add_argument("--out", type=Path, required=True, help="the folder that is left")
    parser.add_argument("--small", action="store_true", help="a tiny network on the CPU, to try this")
    parser.add_argument("overrides", nargs="*", help="of the run, as in precision=tf32 training.graph=on")
    asked, begun = parser.parse_args(), time.monotonic()
    place = Place(make_device("cpu" if asked.small else "cuda"), asked.small)
    asked.out.mkdir(parents=True, exist_ok=True)
    made = measured(place, asked.seconds, asked.overrides)
    release(place)
    made = plan(asked.seconds - (time.monotonic() - begun), made.step_ms, made.epoch_end_ms, made.test_ms)
    line = command(made, place, asked.overrides)
    written = {**asdict(made), "command": ["python", *line[1:]]}
    (asked.out / "plan.json").write_text(json.dumps(written, indent=1) + "\n")
    print(json.dumps(written), flush=True)
    return train(line, begun + asked.seconds - 5, asked.out)


if __name__ == "__main__":
    guard(lambda: sys.exit(main()))

"""Several runs on one GPU: tokens per second of 1, 2 and 4 processes, each with a small RHN."""

import json
import os
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

from benchmarks.gpu.report import Report
from benchmarks.gpu.workload import Place, Workload

COUNTS = (1, 2, 4)
SECONDS, SECONDS_SMALL = 5.0, 0.5
LEAST, PATIENCE = 30.0, 60.0  # seconds for one count
SMALL_RHN = ("model.hidden=200", "model.depth=5")


def measure(report: Report, place: Place) -> None:
    """The sum over the processes, and as a multiple of one process alone."""
    for count in COUNTS[: None if place.cuda else 2]:
        report.attempt(_name(count), partial(_share, report, place, count), LEAST)


def _name(count: int) -> str:
    return f"{count} runs at once"


def _share(report: Report, place: Place, count: int) -> None:
    total = sum(_speeds(place, count))
    alone = next((row["tokens_per_second"] for row in report.rows if row["what"] == _name(COUNTS[0])), total)
    report.row(_name(count), speedup=round(total / alone, 2), tokens_per_second=round(total))


def _speeds(place: Place, count: int) -> list[float]:
    """Tokens per second of each process, while all of them train."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "benchmarks.gpu.sharing", str(place.device), str(int(place.small)), folder]
        environment = os.environ | {"OMP_NUM_THREADS": "1"}
        started = [
            subprocess.Popen([*command, str(count)], stdout=subprocess.PIPE, text=True, env=environment)
            for _ in range(count)
        ]
        until = time.monotonic() + PATIENCE
        try:
            said = [each.communicate(timeout=max(0.1, until - time.monotonic()))[0] for each in started]
            return [float(json.loads(text.splitlines()[-1])) for text in said]
        finally:
            for each in started:
                each.kill()


def _train(device: str, small: str, folder: str, count: str) -> float:
    """Tokens per second of this process, measured once all of them are ready."""
    place = Place(torch.device(device), small == "1")
    step = Workload(place, "rhn", *(() if place.small else SMALL_RHN), windows=20_000)
    for _ in range(8):
        step()
    place.wait()
    (Path(folder) / str(os.getpid())).touch()
    while len(list(Path(folder).iterdir())) < int(count):
        time.sleep(0.01)
    steps, begun = 0, time.perf_counter()
    while time.perf_counter() - begun < (SECONDS_SMALL if place.small else SECONDS):
        for _ in range(5):
            step()
        place.wait()
        steps += 5
    return steps * step.tokens / (time.perf_counter() - begun)


if __name__ == "__main__":
    print(_train(*sys.argv[1:]))

"""Sections that compute on the GPU, in a process of their own: an invalid access spoils all that follows in a process.

A process that dies or hangs is replaced by another, which goes on behind what was under way.
"""

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks.gpu import profiles, steps, updates
from benchmarks.gpu.report import Report
from benchmarks.gpu.workload import Place
from sparse_rnn.core.command_line import guard

SECTIONS = {
    "updates": updates.measure_updates,
    "epoch_end": updates.measure_epoch_end,
    "steps": steps.measure,
    "profiles": profiles.measure,
}
OVERTIME = 20.0  # seconds after the deadline for what was begun before


def run(report: Report, place: Place, names: Sequence[str]) -> None:
    """Fill the report with these sections, by as many processes as it takes."""
    while report.left() > 0:
        report.write()
        begun = len(report.attempted)
        code = _exit_code(report, place, names)
        report.read()
        if code == 0:
            return
        if report.unfinished:
            section = report.attempted[-1].partition(":")[0]
            report.failed(report.unfinished, f"the process hung or crashed (exit code {code})", section)
        if len(report.attempted) == begun:
            report.failed(names[0], f"the process ended before it began (exit code {code})", names[0])
            return


def _exit_code(report: Report, place: Place, names: Sequence[str]) -> int:
    """Of a process that was ended if it took longer than there was time."""
    here = [str(report.path), str(report.left()), str(place.device), str(int(place.small))]
    started = subprocess.Popen([sys.executable, "-m", "benchmarks.gpu.apart", *here, *names])
    try:
        return started.wait(report.left() + OVERTIME)
    except subprocess.TimeoutExpired:
        started.kill()
        return started.wait()


def main(path: str, seconds: str, device: str, small: str, *names: str) -> None:
    """Go on with the report of another process."""
    place = Place(torch.device(device), small == "1")
    report = Report(Path(path), time.monotonic() + float(seconds), bars=not place.small)
    report.read()
    for name in names:
        with report.section(name):
            SECTIONS[name](report, place)


if __name__ == "__main__":
    guard(lambda: main(*sys.argv[1:]))

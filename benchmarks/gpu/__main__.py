"""python -m benchmarks.gpu [--seconds 540] [--small]: what a GPU is asked, written to results/bench/gpu.json."""

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.gpu import device_tests, profiles, sharing, steps, updates
from benchmarks.gpu.report import LATEST, Report
from benchmarks.gpu.workload import Place
from sparse_rnn.core.command_line import guard
from sparse_rnn.core.device import make_device
from sparse_rnn.runs.record import environment

Section = Callable[[], None]


def main() -> int:
    """Measure; returns the exit code, 1 if something failed or a bar is missed."""
    asked = _arguments()
    out = asked.out or (Path(tempfile.mkdtemp()) / LATEST.name if asked.small else LATEST)
    report = Report(out, time.monotonic() + asked.seconds, bars=not asked.small)
    place = Place(make_device("cpu" if asked.small else "cuda"), asked.small)
    report.machine = _machine(place)
    sections: dict[str, Section] = {
        "tests": lambda: device_tests.run(report),
        "steps": lambda: steps.measure(report, place),
        "updates": lambda: updates.measure_updates(report, place),
        "epoch_end": lambda: updates.measure_epoch_end(report, place),
        "profiles": lambda: profiles.measure(report, place),
        "sharing": lambda: sharing.measure(report, place),
    }
    for name in asked.sections or sections:
        with report.section(name):
            sections[name]()
    print(f"\n{report.machine['device_name']}\n{report.table()}\nwritten to {report.path}")
    return int(bool(report.errors) or any(row["holds"] is False for row in report.rows))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("sections", nargs="*", help="tests, steps, updates, epoch_end, profiles, sharing; default: all")
    parser.add_argument("--seconds", type=float, default=540.0, help="for all sections together")
    parser.add_argument("--small", action="store_true", help="tiny networks on the CPU, to try the benchmark itself")
    parser.add_argument("--out", type=Path, help=f"the file to write, if not {LATEST.name} in results/bench")
    return parser.parse_args()


def _machine(place: Place) -> dict[str, object]:
    """The device and the versions of everything that computes."""
    facts = environment(place.device)
    del facts["host"]
    if place.cuda:
        card = torch.cuda.get_device_properties(place.device)
        facts |= {"memory_mib": card.total_memory >> 20, "multiprocessors": card.multi_processor_count}
    return facts


if __name__ == "__main__":
    guard(lambda: sys.exit(main()))

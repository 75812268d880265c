"""python -m benchmarks.gpu [--seconds 540] [--small]: what a GPU is asked, written to results/bench/gpu.json."""

import argparse
import sys
import tempfile
import time
from itertools import groupby
from pathlib import Path

import torch

from benchmarks.gpu import apart, device_tests, sharing
from benchmarks.gpu.report import LATEST, Report
from benchmarks.gpu.workload import Place
from sparse_rnn.core.command_line import guard
from sparse_rnn.core.device import make_device
from sparse_rnn.runs.record import environment

SECTIONS = ("tests", *apart.SECTIONS, "sharing")


def main() -> int:
    """Measure; returns the exit code, 1 if something failed or a bar is missed."""
    asked = _arguments()
    out = asked.out or (Path(tempfile.mkdtemp()) / LATEST.name if asked.small else LATEST)
    report = Report(out, time.monotonic() + asked.seconds, bars=not asked.small)
    place = Place(make_device("cpu" if asked.small else "cuda"), asked.small)
    report.machine = _machine(place)
    for elsewhere, names in groupby(asked.sections or SECTIONS, key=lambda name: name in apart.SECTIONS):
        if elsewhere:
            apart.run(report, place, list(names))
        else:
            for name in names:
                with report.section(name):
                    device_tests.run(report) if name == "tests" else sharing.measure(report, place)
    print(f"\n{report.machine['device_name']}\n{report.table()}\nwritten to {report.path}")
    missed = any(row["holds"] is False or row.get("failed_tests") or row.get("not_run") for row in report.rows)
    return int(bool(report.errors) or missed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("sections", nargs="*", metavar="section", help=f"{', '.join(SECTIONS)}; default: all of them")
    parser.add_argument("--seconds", type=float, default=540.0, help="for all sections together")
    parser.add_argument("--small", action="store_true", help="tiny networks on the CPU, to try the benchmark itself")
    parser.add_argument("--out", type=Path, help=f"the file to write, if not {LATEST.name} in results/bench")
    asked = parser.parse_args()
    if unknown := set(asked.sections) - set(SECTIONS):
        parser.error(f"no such section: {', '.join(sorted(unknown))}")
    return asked


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

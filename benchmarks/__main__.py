"""python -m benchmarks: measure all rows, print them, write results/bench/latest.json."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks import encoding, launching, masked_training, mixture_of_softmaxes, on_lstm, start_up
from benchmarks.row import Row

LATEST = Path(__file__).parent.parent / "results" / "bench" / "latest.json"


def main() -> int:
    """Exit code 1 if a bar is missed."""
    torch.set_num_threads(2)
    measured = (start_up, masked_training, on_lstm, mixture_of_softmaxes, encoding, launching)
    rows = [row for benchmark in measured for row in benchmark.rows()]
    for row in rows:
        print(line(row))
    LATEST.parent.mkdir(parents=True, exist_ok=True)
    LATEST.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")
    print(f"written to {LATEST}")
    return int(any(row.value > row.bar for row in rows))


def line(row: Row) -> str:
    """A row as text."""
    limit = "-" if row.limit is None else f"{row.limit:.2f}"
    verdict = "holds" if row.value <= row.bar else "MISSED"
    return f"{row.name:<62} {row.value:6.3f}  bar {row.bar:5.2f}  limit {limit:>5}  {verdict}"


if __name__ == "__main__":
    sys.exit(main())

"""python -m benchmarks [NAME ...]: run all benchmarks or those named, print and write their rows."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks import (
    aggregation,
    distance,
    encoding,
    launching,
    masked_training,
    mixture_of_softmaxes,
    on_lstm,
    one_token,
    own_networks,
    packed_file,
    shared_cores,
    small_networks,
    sparse_sweep,
    sparse_training,
    split,
    start_up,
)
from benchmarks.row import Row

LATEST = Path(__file__).parent.parent / "results" / "bench" / "latest.json"
ALL = (
    start_up,
    masked_training,
    sparse_training,
    sparse_sweep,
    small_networks,
    one_token,
    own_networks,
    shared_cores,
    split,
    on_lstm,
    mixture_of_softmaxes,
    packed_file,
    encoding,
    launching,
    aggregation,
    distance,
)


def main() -> int:
    """Measure; returns the exit code, 1 if a bar is missed. Rows that are not measured stay as they are in the file."""
    torch.set_num_threads(2)
    named = {benchmark.__name__.rpartition(".")[2]: benchmark for benchmark in ALL}
    rows = []
    for name in sys.argv[1:] or named:
        for row in named[name].rows():
            rows.append(row)
            print(line(row), flush=True)
    old = json.loads(LATEST.read_text()) if LATEST.exists() and sys.argv[1:] else []
    kept = {row["name"]: row for row in [*old, *map(asdict, rows)]}
    LATEST.parent.mkdir(parents=True, exist_ok=True)
    LATEST.write_text(json.dumps(list(kept.values()), indent=1) + "\n")
    print(f"written to {LATEST}")
    return int(any(row.missed for row in rows))


def line(row: Row) -> str:
    """A row as a line of text."""
    limit = "-" if row.limit is None else f"{row.limit:.2f}"
    bar = "-" if row.bar is None else f"{row.bar:.2f}"
    verdict = "" if row.bar is None else "MISSED" if row.missed else "holds"
    return f"{row.name:<62} {row.value:6.3f}  bar {bar:>5}  limit {limit:>5}  {verdict}".rstrip()


if __name__ == "__main__":
    sys.exit(main())

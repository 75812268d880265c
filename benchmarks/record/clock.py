"""The clock: trains a run in a process of its own, and takes the time at which it reaches a perplexity."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.record.entries import arguments
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import run_id
from sparse_rnn.core.errors import RunFailed
from sparse_rnn.core.files import write_text
from sparse_rnn.runs.folder import RunFolder, load_record
from sparse_rnn.runs.rows import Row, read_rows

TARGETS = (120, 110)  # validation perplexities
LOOK_EVERY = 0.1  # seconds
STOPPED = (128 + signal.SIGTERM, -signal.SIGTERM)


def measure(
    name: str, overrides: Sequence[str], seed: int, load: float, out: Path, targets: Sequence[float] = TARGETS
) -> dict[str, Any]:
    """Time one run of an entry and keep its log in `<out>/<name>/<run_id>`; returns what time.json says.

    load: of the machine before anything was started. Raises RunFailed, and keeps nothing, if the run fails.
    """
    line = arguments(overrides, seed)
    with tempfile.TemporaryDirectory() as runs:
        run = RunFolder(Path(runs) / run_id(compose_run(line)))
        seconds = _train(line, run, targets)
        log = {"entry": name, "overrides": list(overrides), "seed": seed, "load": round(load, 2)}
        log |= facts(load_record(run) or {}, read_rows(run.metrics), targets, seconds)
        # Masks and kernels are the same run to the trainer, so the id alone would not tell two entries apart.
        kept = out / name / run.path.name
        kept.mkdir(parents=True, exist_ok=True)
        for file in (run.record, run.metrics):
            shutil.copy(file, kept)
        write_text(kept / "time.json", json.dumps(log, indent=1) + "\n")
    return log


def _train(line: Sequence[str], run: RunFolder, targets: Sequence[float]) -> dict[float, float]:
    """Train until all targets are reached or the run ends; returns seconds by target, as far as it was reached."""
    seconds: dict[float, float] = {}
    started = time.monotonic()
    trainer = subprocess.Popen(
        [sys.executable, "-m", "sparse_rnn.train", *line], env=os.environ | {"SPARSE_RNN_RUNS": str(run.path.parent)}
    )
    try:
        for rows in _rows_until_the_end(trainer, run.metrics):
            now = time.monotonic() - started
            for target in targets:
                if first_reached(rows, target):
                    seconds.setdefault(target, now)
            if len(seconds) == len(targets):
                break
    finally:
        trainer.terminate()  # it saves and exits; nothing happens if it has ended
        trainer.wait()
    if trainer.returncode not in (0, *STOPPED):
        raise RunFailed(
            f"The run ended with exit code {trainer.returncode} and has no time: see its own message above."
        )
    return seconds


def _rows_until_the_end(trainer: subprocess.Popen[bytes], metrics: Path) -> Iterator[list[Row]]:
    """All rows so far, whenever there are new ones, until the process has ended."""
    size = 0
    while True:
        ended = trainer.poll() is not None
        if metrics.exists() and (now := metrics.stat().st_size) > size:
            size = now
            yield read_rows(metrics)
        if ended:
            return
        time.sleep(LOOK_EVERY)


def first_reached(rows: Sequence[Row], target: float) -> Row | None:
    """The first row whose validation perplexity is at or under the target."""
    return next((row for row in rows if row.get("valid/perplexity", target + 1) <= target), None)


def facts(
    record: Mapping[str, Any], rows: Sequence[Row], targets: Sequence[float], seconds: Mapping[float, float]
) -> dict[str, Any]:
    """What time.json says of a run that has ended; `seconds`: by target, of those reached."""
    reached = {target: first_reached(rows, target) if target in seconds else None for target in targets}
    where = record["environment"]
    return {
        "targets": {
            str(target): row
            and {"seconds": round(seconds[target], 1), "epoch": row["epoch"], "perplexity": row["valid/perplexity"]}
            for target, row in reached.items()
        },
        **_size(record, rows),
        "threads": record["threads"],
        **{key: where[key] for key in ("device_name", "commit", "modified")},
    }


def _size(record: Mapping[str, Any], rows: Sequence[Row]) -> dict[str, Any]:
    """The most weights that the run had after any epoch, and its sparsity then: methods that prune begin dense."""
    sparsity = min((row["sparsity/model"] for row in rows if "sparsity/model" in row), default=0.0)
    inactive = record["parameters"] - record["active_parameters"]
    if record["sparsity"]:
        inactive = round(inactive * sparsity / record["sparsity"])
    return {"active_parameters": record["parameters"] - inactive, "sparsity": sparsity}

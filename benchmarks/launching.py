"""How long users wait for the launcher, in seconds."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.row import Row, median_seconds
from launch.job import JobFiles
from sparse_rnn.config.composer import Composer
from sparse_rnn.config.identity import as_dict, run_id
from sparse_rnn.core.files import write_json

ROWS_OF_A_RUN = 100
REPEATS = 3


def rows() -> list[Row]:
    """Seconds of `plan` of everything, of `status` and `plan` beside 1,000 records, and of a job before it trains."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        found = [
            _row("plan of all tables and figures, nothing remembered", 15, lambda: _forget_and_plan(root)),
            _row("plan of all tables and figures, second call", 5, lambda: _launch(root, "plan", "all")),
        ]
        _write_runs(root)
        found += [
            _row("plan of all tables and figures beside 1,000 records", 5, lambda: _launch(root, "plan", "all")),
            _row("status of all tables and figures beside 1,000 records", 3, lambda: _launch(root, "status", "all")),
            _row("status of 1,000 runs that were sent", 3, lambda: _launch(root, "status")),
            _row("a job until training is started", 3, lambda: _start_job(root)),
        ]
        return [*found, *_on_slurm(root)]


def _row(name: str, bar: float, action: Callable[[], object]) -> Row:
    return Row(name, median_seconds(action, REPEATS), bar, None, "seconds")


def _forget_and_plan(root: Path) -> None:
    shutil.rmtree(root / ".launch", ignore_errors=True)
    _launch(root, "plan", "all")


def _launch(root: Path, *arguments: str) -> None:
    environment = os.environ | {"SPARSE_RNN_RUNS": str(root)}
    subprocess.run([sys.executable, "-m", "launch", *arguments], env=environment, check=True, stdout=subprocess.DEVNULL)


def _write_runs(root: Path) -> None:
    """Write a thousand finished runs, as they lie on disk after weeks."""
    composer = Composer()
    for seed in range(1000):
        method = ("selfish", "rigl")[seed % 2]
        run = composer.compose([f"seed={seed // 2 + 1}", "protocol=official_code", f"sparsifier={method}"])
        folder = root / run_id(run)
        folder.mkdir()
        record = {
            "config": as_dict(run),
            "status": "finished",
            "data_sha256": "",
            "device": "cpu",
            "threads": 2,
            "tokens_per_second": 1000.0,
            "seconds": 3600.0,
            "environment": {"device_name": "some processor"},
            "results": {"valid/perplexity": 80.0, "test/perplexity": 79.0},
        }
        write_json(folder / "record.json", record)
        row = '{"step": 1, "epoch": 1, "valid/loss": 4.5}\n'
        (folder / "metrics.jsonl").write_text(row * ROWS_OF_A_RUN)
        write_json(JobFiles(folder).submission, {"cluster": "local", "job": None, "overrides": []})


def _start_job(root: Path) -> None:
    """Wait for the log's first line: the training process is started right after it."""
    log = JobFiles(root / "none").log
    log.unlink(missing_ok=True)
    job = subprocess.Popen([sys.executable, "-m", "launch.job", str(log.parent), "sparsifier=none"])
    while not log.exists():
        time.sleep(0.001)
    job.terminate()
    job.wait()


def _on_slurm(root: Path) -> list[Row]:
    """Seconds of sending 100 runs where a SLURM cluster answers; they are cancelled at once."""
    if shutil.which("sinfo") is None or subprocess.run(["sinfo"], capture_output=True).returncode:
        print("No SLURM cluster answers here: sending 100 runs is not measured")
        return []
    runs = ("--sweep", "seed=range(1,101)", "dataset=pydoc", "budget=smoke")
    resources = ("cluster=slurm", "cluster.cpus=1", "cluster.memory_gb=null", "cluster.sbatch={hold: true}")

    def send() -> None:
        _launch(root, "submit", *runs, *resources)
        _launch(root, "cancel", *runs, "--yes")

    return [_row("submit of 100 runs to SLURM, and cancel", 10, send)]

"""Seconds that a user waits for a table from offline W&B logs, and the memory that it takes."""

import os
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

import wandb

from benchmarks.row import Row, median_seconds
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import as_dict, run_id
from sparse_rnn.config.schema import Run
from sparse_rnn.runs.folder import PROVENANCE, SCHEMA

ROWS_OF_A_RUN = 500
KEYS = 60
SEEDS = range(100, 134)  # of the three rows of Table 6; ids of one length
METHODS = ("gate_magnitude", "gate_gradient", "gates")
SEED = b"seed\x82\x01\x03"  # in W&B's protobuf: the key, then the tag and the length of its value
HEADER, BLOCK, FRAME = 7, 32768, struct.Struct("<IHB")
MEASURE = """
import sys
from benchmarks.row import peak_rss
from results.sources.choice import load
assert len(load(sys.argv[1]).frame) == 1000
print(peak_rss() / 1024**3)
"""


def rows() -> list[Row]:
    """A table of 102 runs with an empty and a filled cache, and 1,000 runs read into a frame."""
    with tempfile.TemporaryDirectory() as folder:
        table, many = Path(folder) / "table", Path(folder) / "many"
        for number, method in enumerate(METHODS):
            ids = {seed: run_id(_composed(method, seed)) for seed in SEEDS}
            one = _write_one(Path(folder) / f"one{number}", method, ids[SEEDS[0]])
            for seed, name in ids.items():
                _copy(one, ids[SEEDS[0]], table, name, seed)
        for number in range(1000):
            _copy(one, ids[SEEDS[0]], many, f"{ids[SEEDS[0]][:-8]}{number:08x}", SEEDS[0])
        found = [
            Row("table of 102 runs of 500 rows, nothing remembered", _seconds(table, forget=True), 10, None, "seconds"),
            Row("table of 102 runs of 500 rows, second call", _seconds(table, forget=False), 2, None, "seconds"),
        ]
        memory: list[float] = []
        seconds = median_seconds(lambda: memory.append(_frame(many)), 1)
        found.append(Row("1,000 runs of 500 rows into a frame, nothing remembered", seconds, 60, None, "seconds"))
        return [*found, Row("memory of that", max(memory), 1, None, "GB")]


def _composed(method: str, seed: int) -> Run:
    common = ("protocol=official_code", "sparsifier=selfish", "optimizer=snt_asgd")
    return compose_run([*common, f"sparsifier.redistribution={method}", f"seed={seed}"])


def _write_one(folder: Path, method: str, name: str) -> Path:
    """The log of a finished run, written by W&B's own client."""
    provenance = dict.fromkeys(PROVENANCE) | {
        "schema": SCHEMA,
        "data_sha256": "0" * 64,
        "sizes": [10_000],
        "threads": 2,
        "started": 0.0,
        "device": "cpu",
        "environment": {"commit": None, "modified": None, "host": "node1"},
    }
    config = as_dict(_composed(method, SEEDS[0])) | {"record": provenance}
    folder.mkdir()
    settings = wandb.Settings(console="off", silent=True, x_disable_stats=True)
    run = wandb.init(id=name, name=name, mode="offline", dir=folder, config=config, settings=settings)
    weights = {f"sparsity/weight{number}/gate": number / KEYS for number in range(KEYS - 3)}
    for epoch in range(1, ROWS_OF_A_RUN):
        run.log({"step": 1328 * epoch, "epoch": epoch, "valid/loss": 5.0 - epoch / 1000, **weights})
    kept = {f"best/{split}/{metric}": 75.0 for split in ("valid", "test") for metric in ("loss", "perplexity")}
    run.log({"step": 1328 * ROWS_OF_A_RUN, "epoch": 499, **kept, "best/active_parameters": 1, "clock/finished": 1.0})
    run.finish()
    wandb.teardown()
    return next(folder.glob("wandb/offline-run-*/*.wandb"))


def _copy(one: Path, name: str, folder: Path, other: str, seed: int) -> None:
    """The same log under another id of the same length, and with another seed."""
    place = folder / other / "wandb" / one.parent.name.replace(name, other)
    place.mkdir(parents=True)
    content = one.read_bytes().replace(name.encode(), other.encode())
    content = content.replace(SEED + str(SEEDS[0]).encode(), SEED + str(seed).encode())
    (place / f"run-{other}.wandb").write_bytes(_checked(bytearray(content)))


def _checked(log: bytearray) -> bytearray:
    """The log with the checksums of its frames computed anew."""
    at = HEADER
    while at + FRAME.size <= len(log):
        if BLOCK - at % BLOCK < FRAME.size:
            at += BLOCK - at % BLOCK
            continue
        _, length, _ = FRAME.unpack_from(log, at)
        struct.pack_into("<I", log, at, zlib.crc32(log[at + 6 : at + FRAME.size + length]))
        at += FRAME.size + length
    return log


def _seconds(root: Path, *, forget: bool) -> float:
    arguments = ["table", "table6", f"seeds=range({SEEDS.start},{SEEDS.stop})"]

    def print_table() -> None:
        for private in (".results", ".launch") if forget else ():
            shutil.rmtree(root / private, ignore_errors=True)
        environment = os.environ | {"SPARSE_RNN_RUNS": str(root)}
        line = [sys.executable, "-m", "results", *arguments]
        printed = subprocess.run(line, env=environment, check=True, capture_output=True, text=True).stdout
        assert "102 of 102 finished" in printed

    return median_seconds(print_table, 3)


def _frame(root: Path) -> float:
    """The memory in GB of a process that reads all runs."""
    shutil.rmtree(root / ".results", ignore_errors=True)
    done = subprocess.run([sys.executable, "-c", MEASURE, str(root)], check=True, capture_output=True, text=True)
    return float(done.stdout)

"""The packed file of the paper's stacked LSTM: its size, and the memory that it takes to read it."""

import json
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.row import Row, peak_rss, printed_by
from sparse_rnn.backends.cpu.compile import kernels
from sparse_rnn.config.compose import compose_run
from sparse_rnn.config.identity import as_dict
from sparse_rnn.inference.computing import kernel_model
from sparse_rnn.inference.export import save_exported
from sparse_rnn.inference.exported import VALUES, load_exported, read_exported
from sparse_rnn.sparsity.method import make_topology
from sparse_rnn.training.assembly import make_optimizer, make_sparsifier

PAPER = ["model=stacked_lstm", "dataset=ptb", "sparsifier.sparsity=0.67"]
WORDS = 10_000
WARM_UP = ["model=stacked_lstm", "dataset=ptb", "model.hidden=8"]
BARS = {"bf16": 53.0}  # MB


def rows() -> list[Row]:
    """Megabytes of files without a vocabulary, and peaks of memory as ratios to the dense weights in float32."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        files = {values: Path(folder, f"{values}.safetensors") for values in VALUES}
        for values, path in files.items():
            least = write(path, PAPER, values)
            name = f"file of 66M entries at sparsity 0.67, packed in {values}"
            found.append(Row(name, path.stat().st_size / 1e6, BARS.get(values), least / 1e6, "MB"))
        for how in ("kernels", "masks"):
            ratio = printed_by("benchmarks.packed_file", how, str(files["bf16"]))
            name = f"peak memory of reading it for {how} / dense weights"
            found.append(Row(name, ratio, 1.0 if how == "kernels" else None, None))
    return found


def write(path: Path, overrides: list[str], values: str) -> int:
    """Write the packed file of a new model; the least that a bitmap and values can take, in bytes."""
    run = compose_run(overrides)
    model = run.model.build(WORDS)
    topology = make_topology(run.sparsifier, model)
    make_sparsifier(run, topology, make_optimizer(run, model))
    topology.mask_weights()
    about = {"run": "untrained", "config": as_dict(run), "sizes": [WORDS], "weights": "untrained"}
    save_exported(path, model, topology, "packed", about, values)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    bitmaps = sum((weight.size + 7) // 8 for weight in topology)
    return bitmaps + (parameters - topology.size + topology.active) * VALUES[values].itemsize


def peak(how: str, path: Path) -> float:
    """What this process takes at most to read a file beyond what it had, by the bytes of the dense weights."""
    kernels()
    with tempfile.TemporaryDirectory() as folder:
        write(small := Path(folder, "small.safetensors"), WARM_UP, "bf16")
        read(how, small)
    before = int(Path("/proc/self/statm").read_text().split()[1]) << 12
    exported = read_exported(path)
    dense = sum(parameter.nbytes for parameter in exported.parameters.values())
    del exported
    read(how, path)
    return (peak_rss() - before) / dense


def read(how: str, path: Path) -> torch.nn.Module:
    """The model in a file, for kernels or masks."""
    return kernel_model(path, read_exported(path))[0] if how == "kernels" else load_exported(path)


if __name__ == "__main__":
    torch.set_num_threads(2)
    print(json.dumps(peak(sys.argv[1], Path(sys.argv[2]))))

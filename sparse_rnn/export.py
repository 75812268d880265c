"""Export a trained model as one file: python -m sparse_rnn.export run=<id or folder> format=csr."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

    from sparse_rnn.config.schema import Run
    from sparse_rnn.runs.folder import RunFolder
    from sparse_rnn.sparsity.topology import SparseTopology

DEFAULTS = {"run": "", "format": "csr", "out": "", "weights": "best"}
HELP = """\
The model of a trained run as one safetensors file, from which it can be rebuilt without the run.

  python -m sparse_rnn.export run=<id or folder> [format=csr] [out=FILE] [weights=best]

format     how the sparse weights are stored; all other parameters are tensors of their names
             csr    <name>.values, <name>.columns, <name>.starts: row r has the entries starts[r] to starts[r + 1] - 1
             coo    <name>.values, <name>.gaps, <name>.long_gaps: of the row-major positions each less the one before;
                    a gap of 65,535 stands for the next of long_gaps
             dense  <name>, inactive entries zero
           with csr and coo, <name>.shape says the shape; indices are uint16 where that is enough, else int32: 6 bytes
           an entry, 1.5 x density x the dense file (csr: and the starts, which count below ten entries a row)
out        the file to write; <run folder>/exported-<format>.safetensors if not given
weights    best: those of the best validation, as they were evaluated then;
           averaged, raw: those of the last checkpoint (of an unfinished run, or one with checkpoint.keep=last)

Metadata: format, version, layout, run, config, sizes, weights, sparsity, parameters, active_parameters. What is written
is read back and compared. sparse_rnn.exported.load_exported gives the model, and refuses a file that is not sound.
Example:
  python -m sparse_rnn.export run=runs/rhn-ptb-selfish-s1-0a1b2c3d format=coo out=rhn.safetensors
"""


def main() -> None:
    """Entry point."""
    from sparse_rnn.core import command_line

    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(HELP, end="")
        return
    command_line.guard(lambda: print(export_run(**command_line.parse_keys(arguments, DEFAULTS))))


def export_run(run: str, format: str, out: str, weights: str) -> str:
    """Write the file; a line with its size beside the dense one's. Raises ConfigError."""
    from sparse_rnn.core.command_line import check_weights, output_file
    from sparse_rnn.core.errors import ConfigError, suggest
    from sparse_rnn.inference.export import LAYOUTS
    from sparse_rnn.inference.load import read_run, reraise_damaged

    if format not in LAYOUTS:
        raise ConfigError(f"format={format} does not exist{suggest(format, LAYOUTS)}.")
    check_weights(weights)
    folder, record, config = read_run(run)
    if format != "dense" and not config.sparsifier.masked:
        raise ConfigError(
            f"{folder.path} is a run of sparsifier={config.sparsifier.name}, which has no masks: use format=dense."
        )
    path = output_file(out, folder.path / f"exported-{format}.safetensors")
    with reraise_damaged():
        facts = _export(path, format, weights, folder, record, config)
    return f"{folder.path.name}  {format}  {facts}  {path}"


def _export(path: "Path", layout: str, weights: str, folder: "RunFolder", record: dict[str, Any], config: "Run") -> str:
    import torch

    from sparse_rnn.inference.load import last_weights, load_best, load_data

    about = {"run": folder.path.name, "config": record["config"], "sizes": record["sizes"]}
    if weights == "best":
        model, topology, origin = load_best(config, record["sizes"], folder)
        return _write(path, layout, model, topology, {**about, "weights": origin})
    data = load_data(folder, record, config)
    with last_weights(config, data, folder, weights, torch.device("cpu")) as (trainer, origin):
        return _write(path, layout, trainer.model, trainer.topology, {**about, "weights": origin})


def _write(path: "Path", layout: str, model: "nn.Module", topology: "SparseTopology", about: dict[str, Any]) -> str:
    """Write the file and read it back; what is said of its size. Raises DamagedFile, RunFailed."""
    from sparse_rnn.core.errors import RunFailed
    from sparse_rnn.inference.export import dense_weights, holds, load_exported, save_exported

    save_exported(path, model, topology, layout, about)
    if not holds(load_exported(path), model, topology):
        path.unlink()
        raise RunFailed("The exported weights are not those of the run: this is a defect.")
    weights = [weight for _, weight in dense_weights(model, topology)]
    size, dense, total = path.stat().st_size, sum(w.nbytes for w in weights), sum(w.numel() for w in weights)
    density = (total - topology.size + topology.active) / total
    return f"{size:,} of {dense:,} bytes: {size / dense:.3f}, {size / dense / density:.2f} x density {density:.3f}"


if __name__ == "__main__":
    main()

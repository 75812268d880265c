"""Export a trained model as a file, or as a folder to share: python -m sparse_rnn.export run=ID format=csr."""

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from sparse_rnn.core.command_line import (
    check_weights,
    one_of,
    output_file,
    output_folder,
    parse_keys,
    say,
    start,
)
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.wording import counted, megabytes
from sparse_rnn.inference.find_run import find_run

if TYPE_CHECKING:
    from sparse_rnn.inference.export import ExportedSize

DEFAULTS = {"run": "", "format": "csr", "out": "", "weights": "best", "values": "fp32", "license": ""}
HUB = "hub"
FORMATS = ("csr", "coo", "packed", "dense", "onnx", HUB)
VALUES = ("fp32", "fp16", "bf16")
HELP = """\
The model of a trained run as one file: safetensors, from which it can be rebuilt without the run, or ONNX; or as a
folder for a model hub.

  python -m sparse_rnn.export run=ID [format=csr] [values=fp32] [out=FILE] [weights=best]
  python -m sparse_rnn.export run=ID format=hub [license=mit] [values=fp32] [out=FOLDER] [weights=best]

ID         the id of a run, the beginning of it, or its folder; or last: the run that was trained last
format     how the sparse weights are stored; every other parameter is a tensor of its own name
             csr    <name>.values, <name>.columns, <name>.starts: row r has the entries starts[r] to starts[r + 1] - 1
             coo    <name>.values, <name>.gaps, <name>.long_gaps: each row-major position minus the one before;
                    a gap of 65,535 stands for the next of long_gaps
             packed <name>.values, <name>.bitmap: a bit for every entry in row-major order, the first in the highest bit
             dense  <name>, inactive entries zero
             onnx   a graph of the dense weights, for other software: tokens [T, B] and the hidden state, state_0, ...,
                    to log_probabilities [T, B, words] and next_state_0, ...; a classifier's gives logits. It is
                    compared with the model by onnxruntime, and needs pip install 'sparse-rnn[onnx]'
             hub    a folder in the form of a model hub: model.safetensors (packed; dense without masks), config.json,
                    vocabulary.json, and a model card, README.md. docs/share.md says how to upload and load it
           With csr, coo and packed, <name>.shape gives the shape. Positions of csr and coo are uint16 where that is
           enough, otherwise int32: an active entry takes 6 bytes, 4 of them its value, and one of a dense matrix 4. So
           a file with a third of the entries is half as large as the dense one (for csr plus the starts, which matter
           only below ten entries per row). packed is smaller wherever more than a 16th of the entries is active
values     fp32, fp16 or bf16: the type of all parameters in the file. With fp16 and bf16 they are rounded, and widened
           again when the file is read
out        the file to write; <run folder>/exported-<format>.safetensors, or exported.onnx, if not given. With hub, the
           folder; <run folder>/exported-hub, if not given
license    with hub: the licence of the weights, as the hub calls it, such as mit, apache-2.0 or cc-by-4.0
weights    best: those of the best validation, as they were evaluated then;
           averaged, raw: those of the last checkpoint (of an unfinished run, or one with checkpoint.keep=last)

Metadata: format, version, layout, values, run, config, sizes, weights, sparsity, parameters, active_parameters,
vocabulary, sha256. The file is read back and compared after writing. sparse_rnn.inference.export.load_exported rebuilds
the model, which can encode and decode text by the vocabulary, and rejects corrupt files.
Examples:
  python -m sparse_rnn.export run=runs/rhn-ptb-selfish-s1-0a1b2c3d format=coo out=rhn.safetensors
  python -m sparse_rnn.export run=last format=packed values=bf16
"""


def main() -> None:
    """Entry point."""
    start(lambda: say(export_run(**parse_keys(sys.argv[1:], DEFAULTS))), lambda: HELP)


def export_run(run: str, format: str, out: str, weights: str, values: str = "fp32", license: str = "") -> str:
    """Write the file or folder; a line with its size, that of all weights, and what takes how much.

    Raises ConfigError.
    """
    one_of("format", format, FORMATS)
    one_of("values", values, VALUES)
    if format == "onnx" and values != DEFAULTS["values"]:
        raise ConfigError(f"values={values} means nothing with format=onnx, whose graphs compute in fp32.")
    check_weights(weights)
    _check_license(license, format)
    folder = find_run(run)
    if format == HUB:
        path = output_folder(out, folder.path / "exported-hub")
        from sparse_rnn.inference.hub_folder import export_for_hub

        return _said(folder.path.name, format, values, export_for_hub(folder, path, weights, values, license), path)
    suffix = ".onnx" if format == "onnx" else f"-{format}.safetensors"
    path = output_file(out, folder.path / f"exported{suffix}")
    from sparse_rnn.inference.export import export_folder

    return _said(folder.path.name, format, values, export_folder(folder, path, format, weights, values), path)


def _check_license(license: str, format: str) -> None:
    if license and format != HUB:
        raise ConfigError(f"license={license} means nothing with format={format}: only format=hub writes a model card.")
    if license and not re.fullmatch(r"[a-z0-9.+-]+", license):
        raise ConfigError(f"license={license} must be a licence as a hub calls it, such as mit or cc-by-4.0.")


def _said(run: str, format: str, values: str, size: "ExportedSize", path: Path) -> str:
    """What was written, in one line."""
    rest = f"vocabulary, names and configuration {megabytes(size.rest)}"
    if format == "onnx":
        said = f"a graph of all {counted(size.parameters, 'parameter')}, which take {megabytes(size.values)}"
    elif size.held == size.parameters:
        said = f"all {counted(size.parameters, 'parameter')} take {megabytes(size.values)}, {rest}"
    else:
        said = (
            f"the {size.held:,} active of {counted(size.parameters, 'parameter')} ({size.held / size.parameters:.1%}) "
            f"take {megabytes(size.values)}, their positions {megabytes(size.positions)}, {rest}"
        )
    instead = f" instead of {megabytes(size.dense)}" if size.held < size.parameters else ""
    kind = format if values == "fp32" else f"{format}, {values}"
    return f"{run}  {kind}  {megabytes(size.written)}{instead}: {said}  {path}"


if __name__ == "__main__":
    main()

"""Extract the smaller dense network of a run of ISS: python -m sparse_rnn.extract run=ID."""

import sys

from sparse_rnn.core.command_line import output_file, parse_keys, say, start
from sparse_rnn.core.wording import counted
from sparse_rnn.inference.find_run import find_run

DEFAULTS = {"run": "", "out": ""}
HELP = """\
The smaller dense network that a run of sparsifier=iss has found, as a safetensors file.

  python -m sparse_rnn.extract run=ID [out=FILE]

It holds the weights of the best validation without the units that were removed. That it computes the same is verified
on random words. Its metadata give the widths, the number of parameters, the run, the configuration and
the vocabulary; sparse_rnn.inference.extract.load_extracted reads it back as a module.

ID         the id of a run, the beginning of it, or its folder; or last: the run that was trained last
out        the file to write; <run folder>/extracted.safetensors if not given
Example:
  python -m sparse_rnn.extract run=runs/rhn-ptb-iss-s1-0a1b2c3d
"""


def main() -> None:
    """Entry point."""
    start(lambda: say(extract_run(**parse_keys(sys.argv[1:], DEFAULTS))), lambda: HELP)


def extract_run(run: str, out: str) -> str:
    """Write the file; a line with the widths and the number of parameters. Raises ConfigError."""
    folder = find_run(run)
    path = output_file(out, folder.path / "extracted.safetensors")
    from sparse_rnn.inference.extract import extract_folder

    extracted, parameters = extract_folder(folder, path)
    widths = ", ".join(map(str, extracted.widths))
    kept = f"{extracted.parameters:,} of {counted(parameters, 'parameter')}"
    return f"{folder.path.name}  widths {widths}  {kept}  {path}"


if __name__ == "__main__":
    main()

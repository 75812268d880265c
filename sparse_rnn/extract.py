"""Extract the smaller dense network of a run of ISS: python -m sparse_rnn.extract run=<id or folder>."""

import sys

DEFAULTS = {"run": "", "out": ""}
HELP = """\
The smaller dense network that a run of sparsifier=iss has found, as a safetensors file.

  python -m sparse_rnn.extract run=<id or folder> [out=FILE]

It holds the weights of the best validation without the units that were removed, and computes the same, which is
verified on random words. Its metadata give the widths, the number of parameters, the run and the configuration;
sparse_rnn.extraction.load_extracted reads it back as a module.

out        the file to write; <run folder>/extracted.safetensors if not given
Example:
  python -m sparse_rnn.extract run=runs/rhn-ptb-iss-s1-0a1b2c3d
"""


def main() -> None:
    """Entry point."""
    from sparse_rnn.core import command_line

    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(HELP, end="")
        return
    command_line.guard(lambda: print(extract_run(**command_line.parse_keys(arguments, DEFAULTS))))


def extract_run(run: str, out: str) -> str:
    """Write the file; a line with the widths and the number of parameters. Raises ConfigError."""
    from sparse_rnn.core.command_line import output_file
    from sparse_rnn.core.errors import ConfigError, RunFailed
    from sparse_rnn.inference.load import read_run, reraise_damaged

    folder, record, config = read_run(run)
    if config.sparsifier.name != "iss":
        raise ConfigError(
            f"{folder.path} is a run of sparsifier={config.sparsifier.name}: only sparsifier=iss removes whole units."
        )
    from sparse_rnn.inference.extract import TOLERANCE, extract, largest_difference, load_extracted, save_extracted
    from sparse_rnn.inference.load import load_best

    path = output_file(out, folder.path / "extracted.safetensors")
    with reraise_damaged():
        model, _, _ = load_best(config, record["sizes"], folder)
        extracted = extract(config.model, model)
        save_extracted(path, extracted, folder.path.name)
        difference = largest_difference(model, load_extracted(path), record["sizes"][0])
    if not difference < TOLERANCE:
        path.unlink()
        raise RunFailed(f"The extracted network's logits differ from the run's by {difference:.1e}: this is a defect.")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    widths = ", ".join(map(str, extracted.widths))
    return f"{folder.path.name}  widths {widths}  {extracted.parameters:,} of {parameters:,} parameters  {path}"


if __name__ == "__main__":
    main()

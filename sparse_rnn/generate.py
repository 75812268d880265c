"""Let a trained language model write: python -m sparse_rnn.generate run=ID prompt="the company said"."""

import math
import sys
from pathlib import Path

from sparse_rnn.core.command_line import (
    optional_threads,
    parse_keys,
    seed_number,
    start,
    whole_number,
)
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.wording import counted, one_line
from sparse_rnn.inference.find_model import find_model

MOST_WORDS = 1_000_000
DEFAULTS = {"run": "", "prompt": "", "words": "50", "temperature": "1", "seed": "1", "threads": "", "file": ""}
HELP = """\
Text drawn word by word from a trained language model, by the weights of its best validation.

  python -m sparse_rnn.generate run=ID [prompt="..."] [words=50] [temperature=1] [seed=1] [threads=N]
  python -m sparse_rnn.generate file=FILE [prompt="..."] ...

ID           the id of a run, the beginning of it, or its folder; or last: the run that was trained last; or example: a
             small model that comes with sparse_rnn
FILE         a file that `export` wrote as csr, coo, packed or dense; a folder of format=hub; or OWNER/NAME of a model
             hub. Its run and its data need not be here
prompt       what the text begins with: words of the data set, separated by spaces; the start of a sentence if not
             given. A word that the model does not know is read as <unk>
words        how many follow; the end of a sentence counts as one and begins a new line, and <unk> is never drawn
temperature  1: words by their probabilities; lower: likely words more often; 0: always the likeliest
seed         another seed draws another text

The text goes to stdout. The number of words per second goes to stderr, with what computed them: the sparse kernels do
on a CPU with a C++ compiler, for a run whose method has masks and whose weights are not small.
Examples:
  python -m sparse_rnn.generate run=example prompt="the"
  python -m sparse_rnn.generate run=runs/rhn-ptb-selfish-s1-0a1b2c3d prompt="the company said" temperature=0.8
  python -m sparse_rnn.generate file=model.safetensors words=20
"""


def main() -> None:
    """Entry point."""
    start(lambda: print(generate(**parse_keys(sys.argv[1:], DEFAULTS))), lambda: HELP)


def generate(run: str, prompt: str, words: str, temperature: str, seed: str, threads: str, file: str = "") -> str:
    """Prompt and text; arguments as on the command line. Facts go to stderr. Raises ConfigError."""
    count, number, heat = whole_number("words", words, most=MOST_WORDS), seed_number(seed), _temperature(temperature)
    limit = optional_threads(threads)
    source = find_model(run, file)
    from sparse_rnn.inference.generate import Drawing, write_text, write_text_from

    drawing = Drawing(prompt, count, heat, number)
    if isinstance(source, Path):
        written = write_text_from(source, drawing, threads=limit)
    else:
        written = write_text(source, drawing, threads=limit)
    if written.unknown:
        print(one_line(f"Not words of the data set, read as <unk>: {', '.join(written.unknown)}"), file=sys.stderr)
    print(
        f"{counted(count, written.unit)}, {written.per_second:.0f} per second, computed with {written.computed_by}",
        file=sys.stderr,
    )
    return written.text


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ConfigError(f"temperature={text} must be a number of at least 0.")
    return value


if __name__ == "__main__":
    main()

"""Let a trained language model write: python -m sparse_rnn.generate run=<id or folder> prompt="the company said"."""

import math
import sys
import time
from collections.abc import Iterable
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from sparse_rnn.data.corpus import Vocabulary
    from sparse_rnn.sparsity.topology import SparseTopology

DEFAULTS = {"run": "", "prompt": "", "words": "50", "temperature": "1", "seed": "1", "threads": ""}
HELP = """\
Text drawn word by word from a trained language model, by the weights of its best validation.

  python -m sparse_rnn.generate run=<id or folder> [prompt="..."] [words=50] [temperature=1] [seed=1] [threads=N]

prompt       what the text begins with: words of the data set, apart by spaces; the start of a sentence if not given.
             A word that the model does not know is read as <unk>
words        how many follow; the end of a sentence counts as one and begins a line, and <unk> is never drawn
temperature  1: words by their probabilities; lower: likely ones more often; 0: always the likeliest
seed         another one, another text

The text is on stdout; on stderr, how many words a second and whether the sparse kernels computed them: they do on a CPU
with a C++ compiler, for a run whose method has masks and whose weights are not small.
Example:
  python -m sparse_rnn.generate run=runs/rhn-ptb-selfish-s1-0a1b2c3d prompt="the company said" temperature=0.8
"""


def main() -> None:
    """Entry point."""
    from sparse_rnn.core import command_line

    arguments = sys.argv[1:]
    if {"-h", "--help"} & set(arguments):
        print(HELP, end="")
        return
    command_line.guard(lambda: print(generate(**command_line.parse_keys(arguments, DEFAULTS))))


def generate(run: str, prompt: str, words: str, temperature: str, seed: str, threads: str) -> str:
    """Prompt and text; arguments as on the command line. Raises ConfigError."""
    from sparse_rnn.core.command_line import set_threads, whole_number
    from sparse_rnn.core.errors import ConfigError
    from sparse_rnn.core.random import generator
    from sparse_rnn.data.corpus import END_OF_SENTENCE, UNKNOWN, Corpus
    from sparse_rnn.inference.generate import next_words
    from sparse_rnn.inference.load import load_best, load_data, read_run, reraise_damaged
    from sparse_rnn.models.base import LanguageModel

    count, seed_number, heat = whole_number("words", words), whole_number("seed", seed, 0), _temperature(temperature)
    set_threads(threads)
    folder, record, config = read_run(run)
    if config.model.task != "language_modelling":
        raise ConfigError(f"{folder.path} is a run of model={config.model.name}: only a language model writes text.")
    data = load_data(folder, record, config)
    assert isinstance(data, Corpus)
    vocabulary = data.vocabulary
    _check_prompt(prompt, vocabulary)
    with reraise_damaged():
        model, topology, _ = load_best(config, record["sizes"], folder)
    path = _compute_sparse(model, topology)
    assert isinstance(model, LanguageModel)
    read = vocabulary.encode(prompt.split() or [END_OF_SENTENCE])
    drawn = next_words(
        model.eval(), read, heat, generator("generate", seed_number), never=vocabulary.index.get(UNKNOWN)
    )
    started = time.monotonic()
    written = [vocabulary.words[number] for number in islice(drawn, count)]
    seconds = time.monotonic() - started
    print(f"{count} words, {count / seconds:.0f} a second, {path}", file=sys.stderr)
    return as_text([*prompt.split(), *written])


def _temperature(text: str) -> float:
    from sparse_rnn.core.errors import ConfigError

    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ConfigError(f"temperature={text} must be a number of at least 0.")
    return value


def _check_prompt(prompt: str, vocabulary: "Vocabulary") -> None:
    """Say which words are not known; raises ConfigError if there is no <unk> to read them as."""
    from sparse_rnn.core.errors import ConfigError
    from sparse_rnn.data.corpus import UNKNOWN

    unknown = [word for word in prompt.split() if word not in vocabulary.index]
    if unknown and UNKNOWN not in vocabulary.index:
        raise ConfigError(f"prompt: {unknown[0]} is not a word of the data set, which has no {UNKNOWN} either.")
    if unknown:
        print(f"Not words of the data set, read as {UNKNOWN}: {', '.join(dict.fromkeys(unknown))}", file=sys.stderr)


def _compute_sparse(model: "nn.Module", topology: "SparseTopology") -> str:
    """Let the sparse kernels compute, if the model is sparse, large enough and they can; what computes, in a phrase."""
    from sparse_rnn.backends.choice import SMALL, small
    from sparse_rnn.backends.cpu.compile import kernels
    from sparse_rnn.backends.cpu.modules import use_sparse_kernels
    from sparse_rnn.core.errors import ConfigError

    if not len(topology):
        return "dense"
    if small(topology):
        return f"masked, {SMALL}"
    try:
        kernels()
        use_sparse_kernels(model, topology)
    except ConfigError as error:
        return f"masked, since: {str(error).rstrip('.')}"
    return "sparse kernels"


def as_text(words: Iterable[str]) -> str:
    """Words apart by spaces, a sentence a line."""
    from sparse_rnn.data.corpus import END_OF_SENTENCE

    lines: list[list[str]] = [[]]
    for word in words:
        if word == END_OF_SENTENCE:
            lines.append([])
        else:
            lines[-1].append(word)
    return "\n".join(map(" ".join, lines))


if __name__ == "__main__":
    main()

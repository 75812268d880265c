"""Text of a trained language model, one word at a time."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn

from sparse_rnn.config.schema import Run
from sparse_rnn.core.errors import ConfigError, RunFailed
from sparse_rnn.core.random import generator
from sparse_rnn.data.corpus import UNKNOWN, Vocabulary
from sparse_rnn.data.tokenizers import CharacterTokenizer, TextTokenizer, Tokenizer, WritingTokenizer
from sparse_rnn.inference.computing import computing_model, use_kernels_if_faster, use_threads
from sparse_rnn.inference.exported import exported_tokenizer, read_exported
from sparse_rnn.inference.load import load_best, load_tokenizer, read_run, reraise_damaged
from sparse_rnn.models.base import LanguageModel
from sparse_rnn.runs.folder import RunFolder


@dataclass(frozen=True)
class Drawing:
    """What to write: the prompt, how many words after it, at which temperature, from which seed."""

    prompt: str
    count: int
    temperature: float
    seed: int


@dataclass(frozen=True)
class Written:
    """What a model wrote: the prompt and the text after it, one sentence per line.

    unit: word or character. unknown: words of the prompt that were read as <unk>. per_second: units drawn in a second.
    computed_by: sparse kernels, masked or dense weights, in a phrase.
    """

    text: str
    unit: str
    unknown: list[str]
    per_second: float
    computed_by: str


def write_text(folder: RunFolder, drawing: Drawing, *, threads: int | None) -> Written:
    """Let the best weights of a run draw words; raises ConfigError, RunFailed.

    threads: those of torch, None: as many as it chooses.
    """
    use_threads(threads)
    record, run = read_run(folder)
    _check_writes(run, f"{folder.path} is a run of")
    tokenizer = _writing(load_tokenizer(folder, record, run), f"{folder.path} is a run")
    unknown = _unknown(drawing.prompt, tokenizer)
    with reraise_damaged():
        model, topology, _ = load_best(run, record["sizes"], folder)
    return _written(model, use_kernels_if_faster(model, topology), tokenizer, unknown, drawing)


def write_text_from(path: Path, drawing: Drawing, *, threads: int | None) -> Written:
    """The same of the model in an exported file; neither its run nor its data are needed."""
    use_threads(threads)
    with reraise_damaged():
        exported = read_exported(path)
        _check_writes(exported.run, f"{path} holds")
        tokenizer = _writing(exported_tokenizer(path, exported), f"{path} is a model")
        unknown = _unknown(drawing.prompt, tokenizer)
        model, computed_by = computing_model(path, exported, windows=False)
    return _written(model, computed_by, tokenizer, unknown, drawing)


def _check_writes(run: Run, what: str) -> None:
    if run.model.task != "language_modelling":
        raise ConfigError(f"{what} model={run.model.name}: only a language model writes text.")


def _writing(tokenizer: Tokenizer, what: str) -> WritingTokenizer:
    if isinstance(tokenizer, TextTokenizer):
        raise ConfigError(f"{what} whose vocabulary is that of a classifier: it writes no text.")
    return tokenizer


def _written(
    model: nn.Module, computed_by: str, tokenizer: WritingTokenizer, unknown: list[str], drawing: Drawing
) -> Written:
    assert isinstance(model, LanguageModel)
    vocabulary = tokenizer.vocabulary
    never, draws = vocabulary.index.get(UNKNOWN), generator("generate", drawing.seed)
    start = vocabulary.encode(tokenizer.prompt(drawing.prompt))
    drawn = next_words(model.eval(), start, drawing.temperature, draws, never=never)
    started = time.monotonic()
    written = list(islice(drawn, drawing.count))
    per_second = drawing.count / (time.monotonic() - started)
    text = tokenizer.continued(drawing.prompt, written)
    unit = "character" if isinstance(tokenizer, CharacterTokenizer) else "word"
    return Written(text, unit, unknown, per_second, computed_by)


def _unknown(prompt: str, tokenizer: WritingTokenizer) -> list[str]:
    """The prompt's unknown words; raises ConfigError for what the model cannot read."""
    if isinstance(tokenizer, CharacterTokenizer):
        tokenizer.known(prompt)
        return []
    return unknown_words(prompt, tokenizer.vocabulary)


def unknown_words(prompt: str, vocabulary: Vocabulary) -> list[str]:
    """The prompt's words that the model does not know, each once; raises ConfigError if there is no <unk> for them."""
    unknown = [word for word in prompt.split() if word not in vocabulary.index]
    if unknown and UNKNOWN not in vocabulary.index:
        raise ConfigError(f"prompt: {unknown[0]} is not a word of the data set, which has no {UNKNOWN} either.")
    return list(dict.fromkeys(unknown))


@torch.inference_mode()
def next_words(
    model: LanguageModel,
    prompt: Tensor,
    temperature: float,
    generator: torch.Generator,
    *,
    never: int | None = None,
) -> Iterator[int]:
    """Word after word without end, each read before the next is drawn; prompt: int64 [T], what is read first.

    never: a word that is not drawn. Raises RunFailed if the model's probabilities are not numbers.
    """
    hidden, tokens = model.initial_hidden(1), prompt[:, None]
    while True:
        output, hidden = model(tokens, hidden)
        scores = model.log_probabilities(output[-1:]).flatten().double()
        if never is not None:
            scores[never] = -torch.inf
        word = draw(scores, temperature, generator)
        yield word
        tokens = torch.tensor([[word]])


def draw(scores: Tensor, temperature: float, generator: torch.Generator) -> int:
    """A word by log probabilities [words], divided by the temperature; with 0 the likeliest."""
    largest = scores.max()
    if not largest.isfinite():
        raise RunFailed("The model's probabilities are not numbers: its training has diverged.")
    if temperature == 0:
        return int(scores.argmax())
    # Subtracting the largest score first keeps exp() below 1 for any temperature, however low.
    return int(torch.multinomial(((scores - largest) / temperature).exp(), 1, generator=generator))

"""Text of a trained language model, one word at a time."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import torch
from torch import Tensor, nn

from sparse_rnn.backends.choice import small
from sparse_rnn.backends.cpu.compile import kernels
from sparse_rnn.backends.cpu.convert import use_sparse_kernels
from sparse_rnn.core.errors import ConfigError, RunFailed
from sparse_rnn.core.random import generator
from sparse_rnn.data.corpus import END_OF_SENTENCE, UNKNOWN, Vocabulary
from sparse_rnn.data.tokenizers import WordTokenizer, as_text
from sparse_rnn.inference.load import load_best, load_tokenizer, read_run, reraise_damaged
from sparse_rnn.models.base import LanguageModel
from sparse_rnn.runs.folder import RunFolder
from sparse_rnn.sparsity.topology import SparseTopology

MASKED = "masked dense weights"


@dataclass(frozen=True)
class Written:
    """What a model wrote: the prompt and the text after it, one sentence per line.

    unknown: words of the prompt that were read as <unk>. per_second: words drawn in a second. computed_by: sparse
    kernels, masked or dense weights, in a phrase.
    """

    text: str
    unknown: list[str]
    per_second: float
    computed_by: str


def write_text(
    folder: RunFolder, prompt: str, count: int, *, temperature: float, seed: int, threads: int | None
) -> Written:
    """Let the best weights of a run draw `count` words after the prompt; raises ConfigError, RunFailed.

    threads: those of torch, None: as many as it chooses.
    """
    if threads is not None:
        torch.set_num_threads(threads)
    record, run = read_run(folder)
    if run.model.task != "language_modelling":
        raise ConfigError(f"{folder.path} is a run of model={run.model.name}: only a language model writes text.")
    tokenizer = load_tokenizer(folder, record, run)
    assert isinstance(tokenizer, WordTokenizer)
    vocabulary = tokenizer.vocabulary
    unknown = unknown_words(prompt, vocabulary)
    with reraise_damaged():
        model, topology, _ = load_best(run, record["sizes"], folder)
    computed_by = _use_kernels_if_faster(model, topology)
    assert isinstance(model, LanguageModel)
    start = vocabulary.encode(prompt.split() or [END_OF_SENTENCE])
    never, draws = vocabulary.index.get(UNKNOWN), generator("generate", seed)
    drawn = next_words(model.eval(), start, temperature, draws, never=never)
    started = time.monotonic()
    written = [vocabulary.words[number] for number in islice(drawn, count)]
    per_second = count / (time.monotonic() - started)
    return Written(as_text([*prompt.split(), *written]), unknown, per_second, computed_by)


def unknown_words(prompt: str, vocabulary: Vocabulary) -> list[str]:
    """The prompt's words that the model does not know, each once; raises ConfigError if there is no <unk> for them."""
    unknown = [word for word in prompt.split() if word not in vocabulary.index]
    if unknown and UNKNOWN not in vocabulary.index:
        raise ConfigError(f"prompt: {unknown[0]} is not a word of the data set, which has no {UNKNOWN} either.")
    return list(dict.fromkeys(unknown))


def _use_kernels_if_faster(model: nn.Module, topology: SparseTopology) -> str:
    """Let the sparse kernels compute if the model is sparse and large enough; returns what computes, in a phrase."""
    if not len(topology):
        return "dense weights"
    if small(topology):
        return MASKED + ", which are faster at this size"
    try:
        kernels()
        use_sparse_kernels(model, topology)
    except ConfigError as error:
        return f"{MASKED}: {str(error).rstrip('.')}"
    return "sparse kernels"


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

"""Text of a language model, one word at a time."""

from collections.abc import Iterator

import torch
from torch import Tensor

from sparse_rnn.core.errors import RunFailed
from sparse_rnn.models.base import LanguageModel


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
    return int(torch.multinomial(((scores - largest) / temperature).exp(), 1, generator=generator))

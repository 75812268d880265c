"""What is learned: batches, loss, metric."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from sparse_rnn.config import Run
from sparse_rnn.data.batches import Batch, Windows, side_by_side
from sparse_rnn.data.corpus import Corpus
from sparse_rnn.models.language_model import Hidden, LanguageModel, detach


class LanguageModelling:
    """Next-word prediction over windows of a text, the hidden state carried from one to the next."""

    metric = "perplexity"

    def __init__(self, run: Run, corpus: Corpus, model: LanguageModel, device: torch.device) -> None:
        self.run, self.corpus, self.model, self.device = run, corpus, model, device
        batches = {"train": run.training.batch, "valid": run.training.valid_batch, "test": run.training.test_batch}
        self._rows = {
            split: side_by_side(tokens, batches[split], split=split).to(device)
            for split, tokens in corpus.splits.items()
        }

    def windows(self, epoch: int) -> Windows:
        """The training windows of an epoch (from 0)."""
        training = self.run.training
        return Windows(
            self._rows["train"], training.bptt, variable=training.variable_bptt, seed=self.run.seed, epoch=epoch
        )

    def initial_hidden(self) -> Hidden:
        """The hidden state at the start of an epoch: zeros."""
        return self.model.initial_hidden(self.run.training.batch)

    def loss(self, batch: Batch, hidden: Hidden) -> tuple[Tensor, Hidden]:
        """Mean cross-entropy a token, in nats, and the hidden state to carry on with."""
        output, hidden = self.model(batch.inputs, detach(hidden))
        return self.model.loss(output, batch.targets), detach(hidden)

    @torch.no_grad()
    def evaluate(self, split: str, between: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Loss (nats a token, over the exact number predicted) and perplexity of a split.

        `between` is called after every window, and may raise to stop.
        """
        rows = self._rows[split]
        windows = Windows(rows, self.run.training.bptt)
        total = 0.0
        with evaluation(self.model):
            hidden = self.model.initial_hidden(rows.shape[1])
            for batch in windows.after(0):
                output, hidden = self.model(batch.inputs, hidden)
                total += float(self.model.loss(output, batch.targets)) * batch.targets.numel()
                between()
        return self.metrics(total / windows.tokens)

    def metrics(self, loss: float) -> dict[str, float]:
        """What is reported of a mean loss."""
        return {"loss": loss, self.metric: perplexity(loss)}

    def snapshot(self, tokens: int) -> list[Tensor]:
        """Every layer's hidden states on the first test tokens, each float16 [tokens, units]."""
        rows = side_by_side(self.corpus.splits["test"][:tokens], 1, split="test").to(self.device)
        with evaluation(self.model):
            states, _ = self.model.layer_states(rows, self.model.initial_hidden(1))
        return [state.squeeze(1).half().cpu() for state in states]


@contextmanager
def evaluation(model: torch.nn.Module) -> Iterator[None]:
    """Switch dropouts off, and back to what they were."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def perplexity(loss: float) -> float:
    """exp(loss), infinite where that is too large for a float."""
    return math.exp(loss) if loss < 700 else math.inf

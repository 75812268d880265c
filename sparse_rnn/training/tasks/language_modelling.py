"""Next-word prediction over windows of a text."""

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from sparse_rnn.config.schema import TrainingConfig
from sparse_rnn.core.device import autocast
from sparse_rnn.core.metrics import BITS
from sparse_rnn.core.registry import register
from sparse_rnn.data.baselines import MOST_COUNTED, word_models
from sparse_rnn.data.batches import Batch, Windows, rows_of, side_by_side
from sparse_rnn.data.corpus import Corpus
from sparse_rnn.models.base import Hidden, LanguageModel, detach
from sparse_rnn.training.tasks.base import BatchTotals, Totals, evaluation


def batch_sizes(config: TrainingConfig) -> dict[str, int]:
    """Sequences side by side, by split."""
    return {"train": config.batch, "valid": config.valid_batch, "test": config.test_batch}


def check_batches(config: TrainingConfig, corpus: Corpus) -> None:
    """Raise ConfigError if a split has too few tokens for its batch."""
    for split, size in batch_sizes(config).items():
        rows_of(corpus.counts[split], size, split=split)


@register("task", "language_modelling")
class LanguageModelling:
    """Next words of `batch` sequences side by side; the hidden state is carried from window to window.

    Where tokens are characters, the loss is reported in bits per character too. With training.sub_batch, a batch is
    trained in parts, each with its own hidden state.
    """

    metric: ClassVar[str] = "perplexity"
    smallest: ClassVar[tuple[int, ...]] = (3,)

    def __init__(
        self,
        config: TrainingConfig,
        seed: int,
        corpus: Corpus,
        model: LanguageModel,
        device: torch.device,
        precision: str = "fp32",
    ) -> None:
        self.config, self.seed, self.corpus, self.model = config, seed, corpus, model
        self.device, self.precision = device, precision
        sizes = batch_sizes(config)
        self._rows = {
            split: side_by_side(tokens, sizes[split], split=split).to(device) for split, tokens in corpus.splits.items()
        }

    def batches(self, epoch: int) -> Windows:
        """The training windows of an epoch (from 0); their lengths may vary, as `seed` and the epoch say."""
        return Windows(
            self._rows["train"],
            self.config.bptt,
            variable=self.config.variable_bptt,
            longest=self.config.max_bptt,
            seed=self.seed,
            epoch=epoch,
        )

    def initial_hidden(self) -> list[Hidden]:
        """The hidden state of each part of a batch at the start of an epoch: zeros."""
        columns = torch.split(torch.arange(self.config.batch), self._part)
        return [self.model.initial_hidden(len(part)) for part in columns]

    @property
    def _part(self) -> int:
        """Sequences that are trained at a time."""
        return self.config.sub_batch or self.config.batch

    def backward(self, batch: Batch, hidden: list[Hidden]) -> tuple[BatchTotals, list[Hidden]]:
        """Accumulate the gradients of the mean cross-entropy per token (in nats) and of the model's penalty."""
        columns = (torch.split(tokens, self._part, dim=1) for tokens in (batch.inputs, batch.targets))
        total, carried = torch.zeros((), dtype=torch.float64, device=self.device), []
        for inputs, targets, own in zip(*columns, hidden, strict=True):
            with autocast(self.device, self.precision):
                loss, penalty, own = self.model.training_loss(inputs, targets, detach(own))
                objective = loss if penalty is None else loss + penalty
            torch.autograd.backward(objective * (targets.numel() / batch.targets.numel()))
            total += loss.detach().double() * targets.numel()
            carried.append(detach(own))
        return BatchTotals(total, torch.zeros_like(total), batch.targets.numel(), batch.inputs.numel()), carried

    def in_order(self, split: str) -> Windows:
        """The windows of a split, one after another."""
        return Windows(self._rows[split], self.config.bptt)

    @torch.no_grad()
    def evaluate(self, split: str, between: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Loss (nats per token, over the exact number of predicted tokens) and perplexity of a split.

        `between` is called after every window, and may raise to stop.
        """
        total, targets = torch.zeros((), dtype=torch.float64, device=self.device), 0
        with evaluation(self.model), autocast(self.device, self.precision):
            hidden = self.model.initial_hidden(self._rows[split].shape[1])
            for batch in self.in_order(split).after(0):
                output, hidden = self.model(batch.inputs, hidden)
                count = batch.targets.numel()
                total += self.model.loss(output, batch.targets).double() * count
                targets += count
                between()
        return self.metrics(Totals(float(total), targets=targets))

    def metrics(self, totals: Totals) -> dict[str, float]:
        """Mean loss in nats per token, perplexity (infinite where exp would overflow), and bits per character."""
        loss = totals.loss / totals.targets
        bits = {BITS.name: loss / math.log(2)} if self.corpus.characters else {}
        return {"loss": loss, self.metric: math.exp(loss) if loss < 700 else math.inf, **bits}

    def better(self, valid: dict[str, float], best: dict[str, float]) -> bool:
        """Whether the loss is lower."""
        return valid["loss"] < best["loss"]

    def snapshot(self, tokens: int) -> list[Tensor]:
        """Every layer's hidden states on the first test tokens, each float16 [tokens, units]."""
        first = self.corpus.splits["test"][:tokens].to(torch.int64)
        rows = side_by_side(first, 1, split="test").to(self.device)
        with evaluation(self.model):
            states, _ = self.model.layer_states(rows, self.model.initial_hidden(1))
        return [state.squeeze(1).half().cpu() for state in states]

    def comparison(self) -> str:
        """Perplexity, or bits per character, of a unigram and of a bigram model."""
        unigram, bigram = word_models(self.corpus)
        cut = f" (counts of the first {MOST_COUNTED:,} tokens)" if self.corpus.counts["train"] > MOST_COUNTED else ""
        if self.corpus.characters:
            bits = f"unigram model {math.log2(unigram):.3f}, of a bigram model {math.log2(bigram):.3f}"
            return f"valid {BITS.words} of a {bits}{cut}"
        return f"valid perplexity of a unigram model {unigram:.1f}, of a bigram model {bigram:.1f}{cut}"

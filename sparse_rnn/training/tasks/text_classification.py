"""The class of a text."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparse_rnn.config.schema import Run
from sparse_rnn.core.registry import register
from sparse_rnn.data.baselines import class_models
from sparse_rnn.data.batches import Batch, Shuffled
from sparse_rnn.data.labelled.texts import LabelledTexts
from sparse_rnn.models.base import TextClassifier
from sparse_rnn.training.tasks.base import Totals, evaluation


@register("task", "text_classification")
class TextClassification:
    """Texts in a new order every epoch; nothing is carried from batch to batch."""

    metric: ClassVar[str] = "accuracy"
    smallest: ClassVar[tuple[int, ...]] = (2, 2)

    def __init__(self, run: Run, texts: LabelledTexts, model: TextClassifier, device: torch.device) -> None:
        self.run, self.texts, self.model, self.device = run, texts, model, device
        self._sizes = {"train": run.training.batch, "valid": run.training.valid_batch, "test": run.training.test_batch}

    def batches(self, epoch: int) -> Shuffled:
        """The training texts in the order of an epoch (from 0)."""
        return Shuffled(self.texts.splits["train"], self._sizes["train"], self.device, (self.run.seed, "order", epoch))

    def initial_hidden(self) -> None:
        """Nothing."""

    def backward(self, batch: Batch, hidden: None) -> tuple[Totals, None]:
        """Accumulate the gradients of the mean cross-entropy a text (in nats)."""
        loss, totals = self._loss(batch)
        torch.autograd.backward(loss)
        return totals, None

    def _loss(self, batch: Batch) -> tuple[Tensor, Totals]:
        logits = self.model(batch.inputs)
        loss = nn.functional.cross_entropy(logits, batch.targets)
        correct = int((logits.argmax(dim=1) == batch.targets).count_nonzero())
        return loss, Totals(loss.item() * len(logits), correct, len(logits), batch.inputs.numel())

    @torch.no_grad()
    def evaluate(self, split: str, between: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Loss (nats a text) and accuracy of a split; `between` is called after every batch, and may raise to stop."""
        totals = Totals()
        with evaluation(self.model):
            for batch in Shuffled(self.texts.splits[split], self._sizes[split], self.device).after(0):
                totals.add(self._loss(batch)[1])
                between()
        return self.metrics(totals)

    def metrics(self, totals: Totals) -> dict[str, float]:
        """Mean loss in nats a text, and accuracy in [0, 1]."""
        return {"loss": totals.loss / totals.targets, self.metric: totals.correct / totals.targets}

    def better(self, valid: dict[str, float], best: dict[str, float]) -> bool:
        """By accuracy, then by the loss."""
        return (-valid[self.metric], valid["loss"]) < (-best[self.metric], best["loss"])

    @torch.no_grad()
    def snapshot(self, tokens: int) -> list[Tensor]:
        """The hidden states of every layer on the first test texts, each float16 [tokens, units], text by text: as many
        whole texts as `tokens` hold, at least one."""
        test = self.texts.splits["test"]
        count = max(tokens // test.tokens.shape[1], 1)
        batch = next(Shuffled(test, count, self.device).after(0))
        with evaluation(self.model):
            states = self.model.layer_states(batch.inputs)
        return [state.transpose(0, 1).flatten(0, 1).half().cpu() for state in states]

    def comparison(self) -> str:
        """Accuracy of always guessing one class, and of naive Bayes."""
        majority, bayes = class_models(self.texts)
        return f"valid accuracy of the most frequent class {majority:.2%}, of naive Bayes {bayes:.2%}"

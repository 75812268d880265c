"""The class of a text, or of an image that is read pixel by pixel."""

from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from sparse_rnn.config.schema import TrainingConfig
from sparse_rnn.core.device import autocast
from sparse_rnn.core.registry import register
from sparse_rnn.data.baselines import class_models, image_models
from sparse_rnn.data.batches import Batch, Shuffled
from sparse_rnn.data.labelled.texts import LabelledTexts
from sparse_rnn.data.sequences.images import Images
from sparse_rnn.models.base import TextClassifier
from sparse_rnn.training.tasks.base import BatchTotals, Totals, evaluation


@register("task", "text_classification")
class TextClassification:
    """The classes of texts or images, read in a new order every epoch; no state is carried from batch to batch."""

    metric: ClassVar[str] = "accuracy"
    smallest: ClassVar[tuple[int, ...]] = (2, 2)

    def __init__(
        self,
        config: TrainingConfig,
        seed: int,
        texts: LabelledTexts | Images,
        model: TextClassifier,
        device: torch.device,
        precision: str = "fp32",
    ) -> None:
        self.seed, self.texts, self.model, self.device, self.precision = seed, texts, model, device, precision
        self._splits = {name: split.to(device) for name, split in texts.splits.items()}
        self._sizes = {"train": config.batch, "valid": config.valid_batch, "test": config.test_batch}

    def batches(self, epoch: int) -> Shuffled:
        """The training texts in the order of an epoch (from 0)."""
        return Shuffled(self._splits["train"], self._sizes["train"], (self.seed, "order", epoch))

    def initial_hidden(self) -> None:
        """None: each text begins with zeros."""

    def backward(self, batch: Batch, hidden: None) -> tuple[BatchTotals, None]:
        """Accumulate the gradients of the mean cross-entropy per text (in nats)."""
        loss, totals = self._loss(batch)
        torch.autograd.backward(loss)
        return totals, None

    def _loss(self, batch: Batch) -> tuple[Tensor, BatchTotals]:
        with autocast(self.device, self.precision):
            logits = self.model(batch.inputs)
            loss = nn.functional.cross_entropy(logits, batch.targets)
        correct = (logits.argmax(dim=1) == batch.targets).sum(dtype=torch.float64)
        return loss, BatchTotals(loss.detach().double() * len(logits), correct, len(logits), batch.tokens)

    def in_order(self, split: str) -> Shuffled:
        """The texts of a split, in the order of their lengths or of the files."""
        return Shuffled(self._splits[split], self._sizes[split])

    @torch.no_grad()
    def evaluate(self, split: str, between: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Loss (nats per text) and accuracy of a split.

        `between` is called after every batch, and may raise to stop.
        """
        sums, targets = torch.zeros(2, dtype=torch.float64, device=self.device), 0
        with evaluation(self.model):
            for batch in self.in_order(split).after(0):
                totals = self._loss(batch)[1]
                sums += torch.stack([totals.loss, totals.correct])
                targets += totals.targets
                between()
        loss, correct = sums.tolist()
        return self.metrics(Totals(loss, int(correct), targets))

    def metrics(self, totals: Totals) -> dict[str, float]:
        """Mean loss in nats per text, and accuracy in [0, 1]."""
        return {"loss": totals.loss / totals.targets, self.metric: totals.correct / totals.targets}

    def better(self, valid: dict[str, float], best: dict[str, float]) -> bool:
        """Whether the accuracy is higher, or the loss lower at the same accuracy."""
        return (-valid[self.metric], valid["loss"]) < (-best[self.metric], best["loss"])

    @torch.no_grad()
    def snapshot(self, tokens: int) -> list[Tensor]:
        """Every layer's hidden states on the first test texts, each float16 [tokens, units], text by text.

        As many whole texts are read as `tokens` tokens hold, but at least one.
        """
        test = self._splits["test"]
        count = max(tokens // test.length, 1)
        batch = next(Shuffled(test, count).after(0))
        with evaluation(self.model):
            states = self.model.layer_states(batch.inputs)
        return [state.transpose(0, 1).flatten(0, 1).half().cpu() for state in states]

    def comparison(self) -> str:
        """Accuracy of always guessing one class, and of naive Bayes, or of images the nearest mean of a class."""
        if isinstance(self.texts, Images):
            majority, nearest = image_models(self.texts)
            return f"valid accuracy of the most frequent class {majority:.2%}, of the nearest mean image {nearest:.2%}"
        majority, bayes = class_models(self.texts)
        return f"valid accuracy of the most frequent class {majority:.2%}, of naive Bayes {bayes:.2%}"

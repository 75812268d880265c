"""Problems whose sequences are drawn: one number for a whole sequence, or a symbol for every step."""

from collections.abc import Callable
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from sparse_rnn.config.schema import TrainingConfig
from sparse_rnn.core.device import autocast
from sparse_rnn.core.metrics import ACCURACY, MSE
from sparse_rnn.core.registry import register
from sparse_rnn.data.batches import Batch, Fresh, InOrder
from sparse_rnn.data.sequences.drawn import COPIED, SYMBOLS, Copying, Drawn
from sparse_rnn.models.base import LanguageModel, TextClassifier
from sparse_rnn.training.tasks.base import Batches, BatchTotals, Totals, evaluation

Model = TypeVar("Model", bound=nn.Module)


class DrawnSequences(Generic[Model]):
    """The base of both tasks: new sequences in every step; no state is carried from batch to batch."""

    def __init__(
        self,
        config: TrainingConfig,
        seed: int,
        problem: Drawn,
        model: Model,
        device: torch.device,
        precision: str = "fp32",
    ) -> None:
        self.seed, self.problem, self.model, self.device, self.precision = seed, problem, model, device, precision
        self._splits = {name: split.to(device) for name, split in problem.splits.items()}
        self._sizes = {"train": config.batch, "valid": config.valid_batch, "test": config.test_batch}

    def batches(self, epoch: int) -> Fresh:
        """The training sequences of an epoch (from 0)."""
        return Fresh(self.problem, self._sizes["train"], self.device, (self.seed, "train", epoch))

    def initial_hidden(self) -> None:
        """None: each sequence begins with zeros."""

    def backward(self, batch: Batch, hidden: None) -> tuple[BatchTotals, None]:
        """Accumulate the gradients of the mean loss and of the model's penalty."""
        with autocast(self.device, self.precision):
            loss, objective = self.training_loss(batch)
        torch.autograd.backward(objective)
        count = batch.targets.numel()
        total = loss.detach().double() * count
        return BatchTotals(total, torch.zeros_like(total), count, batch.tokens), None

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mean loss, and what is minimised."""
        raise NotImplementedError

    def judge(self, batch: Batch) -> BatchTotals:
        """What is added up in evaluation."""
        raise NotImplementedError

    def metrics(self, totals: Totals) -> dict[str, float]:
        """Metrics of training; those of evaluation may have more."""
        raise NotImplementedError

    def in_order(self, split: str) -> Batches:
        """The sequences of a split; of training, those of its first epoch."""
        return self.batches(0) if split == "train" else InOrder(self._splits[split], self._sizes[split])

    @torch.no_grad()
    def evaluate(self, split: str, between: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Metrics of a split; of training, of the sequences of its first epoch.

        `between` is called after every batch, and may raise to stop.
        """
        sums, targets = torch.zeros(2, dtype=torch.float64, device=self.device), 0
        with evaluation(self.model), autocast(self.device, self.precision):
            for batch in self.in_order(split).after(0):
                totals = self.judge(batch)
                sums += torch.stack([totals.loss, totals.correct])
                targets += totals.targets
                between()
        loss, correct = sums.tolist()
        return self.evaluated(Totals(loss, int(correct), targets))

    def evaluated(self, totals: Totals) -> dict[str, float]:
        """Metrics of evaluation."""
        return self.metrics(totals)

    def _first_tests(self, tokens: int) -> Batch:
        """The first test sequences, as many as `tokens` steps hold, but at least one."""
        return next(InOrder(self._splits["test"], max(1, tokens // self.problem.problem.steps)).after(0))


@register("task", "sequence_regression")
class SequenceRegression(DrawnSequences[TextClassifier]):
    """One number for each sequence, from the model's last state; the loss is the squared error."""

    metric: ClassVar[str] = MSE.name
    smallest: ClassVar[tuple[int, ...]] = (2, 1)

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mean squared error, twice."""
        loss = nn.functional.mse_loss(self.model(batch.inputs).squeeze(1).float(), batch.targets)
        return loss, loss

    def judge(self, batch: Batch) -> BatchTotals:
        """The sum of squared errors."""
        loss, _ = self.training_loss(batch)
        count = batch.targets.numel()
        return BatchTotals(loss.double() * count, loss.new_zeros((), dtype=torch.float64), count, batch.tokens)

    def metrics(self, totals: Totals) -> dict[str, float]:
        """The mean squared error, also as the loss."""
        mean = totals.loss / totals.targets
        return {"loss": mean, self.metric: mean}

    def better(self, valid: dict[str, float], best: dict[str, float]) -> bool:
        """Whether the error is smaller."""
        return valid["loss"] < best["loss"]

    @torch.no_grad()
    def snapshot(self, tokens: int) -> list[Tensor]:
        """Every layer's hidden states on the first test sequences, each float16 [steps, units], one after another."""
        with evaluation(self.model):
            states = self.model.layer_states(self._first_tests(tokens).inputs)
        return [state.transpose(0, 1).flatten(0, 1).half().cpu() for state in states]

    def comparison(self) -> str:
        """The error of always answering 1, the mean of all sums."""
        error = float((self.problem.splits["valid"].targets - 1).square().mean())
        return f"valid {MSE.words} of always answering 1 {error:.5f} (1/6 over all sequences)"


@register("task", "sequence_labelling")
class SequenceLabelling(DrawnSequences[LanguageModel]):
    """A symbol for every step of a sequence; the accuracy is that of the symbols that had to be remembered."""

    metric: ClassVar[str] = ACCURACY.name
    smallest: ClassVar[tuple[int, ...]] = (SYMBOLS + 2,)

    def training_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The mean cross-entropy per step (in nats), and that with the model's penalty."""
        hidden = self.model.initial_hidden(batch.inputs.shape[1])
        loss, penalty, _ = self.model.training_loss(batch.inputs, batch.targets, hidden)
        return loss, loss if penalty is None else loss + penalty

    def judge(self, batch: Batch) -> BatchTotals:
        """The sum of cross-entropies, and the number of symbols remembered."""
        output, _ = self.model(batch.inputs, self.model.initial_hidden(batch.inputs.shape[1]))
        loss, count = self.model.loss(output, batch.targets), batch.targets.numel()
        answers = self.model.log_probabilities(output[-COPIED:]).argmax(dim=-1)
        correct = (answers == batch.targets[-COPIED:]).sum(dtype=torch.float64)
        return BatchTotals(loss.double() * count, correct, count, batch.tokens)

    def metrics(self, totals: Totals) -> dict[str, float]:
        """The mean cross-entropy per step, in nats."""
        return {"loss": totals.loss / totals.targets}

    def evaluated(self, totals: Totals) -> dict[str, float]:
        """The mean cross-entropy per step, and the share of the symbols that were remembered."""
        remembered = totals.targets // self.problem.problem.steps * COPIED
        return {**self.metrics(totals), self.metric: totals.correct / remembered}

    def better(self, valid: dict[str, float], best: dict[str, float]) -> bool:
        """Whether the accuracy is higher, or the loss lower at the same accuracy."""
        return (-valid[self.metric], valid["loss"]) < (-best[self.metric], best["loss"])

    @torch.no_grad()
    def snapshot(self, tokens: int) -> list[Tensor]:
        """Every layer's hidden states on the first test sequences, each float16 [steps, units], one after another."""
        inputs = self._first_tests(tokens).inputs
        with evaluation(self.model):
            states, _ = self.model.layer_states(inputs, self.model.initial_hidden(inputs.shape[1]))
        return [state.transpose(0, 1).flatten(0, 1).half().cpu() for state in states]

    def comparison(self) -> str:
        """What the best answers without memory achieve."""
        assert isinstance(self.problem.problem, Copying)
        return f"valid loss without memory {self.problem.problem.without_memory:.4f}, accuracy {1 / SYMBOLS:.2%}"

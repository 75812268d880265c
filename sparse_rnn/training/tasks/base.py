"""What is learned: batches, loss, metric."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor, nn

from sparse_rnn.data.batches import Batch


@dataclass
class Totals:
    """Sums over predictions: loss in nats, correct predictions, number of targets and of tokens read."""

    loss: float = 0.0
    correct: int = 0
    targets: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class BatchTotals:
    """The same sums over one batch. Loss and correct predictions, each float64 [], stay on the device: reading a number
    there would wait until all work is done."""

    loss: Tensor
    correct: Tensor
    targets: int
    tokens: int


class Batches(Protocol):
    """The batches of one pass over the data; a position in it is a number of batches."""

    def __len__(self) -> int: ...

    def after(self, position: int) -> Iterator[Batch]:
        """The batches from number `position` on."""


class Task(Protocol):
    """What a model learns. Made of the training configuration, the seed of the batches, the data, the model, its device
    and the precision of products.

    metric: the name of what is reported beside the loss. smallest: the smallest sizes that a model can be built for.
    """

    metric: ClassVar[str]
    smallest: ClassVar[tuple[int, ...]]

    def batches(self, epoch: int) -> Batches:
        """The training batches of an epoch (from 0)."""

    def initial_hidden(self) -> Any:
        """What is carried from batch to batch, at the start of an epoch."""

    def backward(self, batch: Batch, hidden: Any) -> tuple[BatchTotals, Any]:
        """Accumulate the gradients of the batch's mean loss; returns its sums and the hidden state to carry on."""

    def in_order(self, split: str) -> Batches:
        """The batches that evaluation goes through."""

    def evaluate(self, split: str, between: Callable[[], None] = lambda: None) -> dict[str, float]:
        """Metrics of a split. `between` is called after every batch, and may raise to stop."""

    def metrics(self, totals: Totals) -> dict[str, float]:
        """Mean loss and metric of sums."""

    def better(self, valid: dict[str, float], best: dict[str, float]) -> bool:
        """Whether metrics of the validation split are better than the best so far."""

    def snapshot(self, tokens: int) -> list[Tensor]:
        """Every layer's hidden states on the first test tokens, each float16 [tokens, units]."""

    def comparison(self) -> str:
        """What models that only count words achieve, as a phrase."""


@contextmanager
def evaluation(model: nn.Module) -> Iterator[None]:
    """Switch dropout off, and afterwards back to what it was."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)

"""Sums of training losses that stay on the device until somebody reads them."""

import torch

from sparse_rnn.training.tasks.base import BatchTotals


class RunningSums:
    """What a run adds up in every step. Reading it waits for the device, which then has nothing to do for a while.

    All are float64, in which Python would add the same numbers to the same sums.
    loss, correct: over this epoch, as in Totals. recent: of the steps' mean losses since the last row of training loss.
    finite: the number of steps since the last `read` after which `loss` was a finite number.
    """

    def __init__(self, device: torch.device) -> None:
        self._sums = torch.zeros(4, dtype=torch.float64, device=device)
        self._loss, self._correct, self._recent, self._finite = self._sums.unbind()

    def add(self, totals: BatchTotals) -> None:
        """Add what a step computed."""
        self._loss += totals.loss
        self._correct += totals.correct
        self._recent += totals.loss / totals.targets
        self._finite += self._loss.isfinite()

    def read(self) -> tuple[float, int, float, int]:
        """The four sums; `finite` begins anew. Where the loss is not a number, correct predictions are of no use."""
        loss, correct, recent, finite = self._sums.tolist()
        self._finite.zero_()
        return loss, int(correct), recent, int(finite)

    def begin(self, loss: float = 0.0, correct: int = 0, recent: float | None = None) -> None:
        """Set the sums of an epoch; `recent` stays as it is if it is None."""
        self._loss.fill_(loss)
        self._correct.fill_(correct)
        if recent is not None:
            self._recent.fill_(recent)

    def begin_recent(self) -> None:
        """Set the sum of recent losses to zero."""
        self._recent.zero_()

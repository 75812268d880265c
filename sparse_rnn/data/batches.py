"""Data as batches: windows of consecutive tokens, sequences in random order, or new ones."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.random import generator
from sparse_rnn.core.wording import counted
from sparse_rnn.data.sequences.drawn import Drawn, DrawnSplit


@dataclass(frozen=True, slots=True)
class Batch:
    """inputs: tokens int64 [T, B], or numbers float32 [T, B, numbers]. targets: int64, [T, B] for every step or [B]
    classes, or float32 [B]. index: place in its pass, from 0.
    """

    index: int
    inputs: Tensor
    targets: Tensor

    @property
    def tokens(self) -> int:
        """Steps of all sequences."""
        return self.inputs.shape[0] * self.inputs.shape[1]


def rows_of(tokens: int, batch: int, *, split: str) -> int:
    """The number of rows of a text side by side; raises ConfigError for fewer than two, naming the split."""
    rows = tokens // batch
    if rows < 2:
        raise ConfigError(f"The {split} split has {counted(tokens, 'token')}: too few for a batch of {batch}.")
    return rows


def side_by_side(tokens: Tensor, batch: int, *, split: str) -> Tensor:
    """A text cut into `batch` columns of consecutive tokens [rows, batch]; what does not fill a row is dropped.

    Tokens of a smaller type than int64 stay where they are: they may be those of a file that memory does not hold.
    Raises ConfigError for a text of fewer than two rows, naming the split.
    """
    rows = rows_of(tokens.numel(), batch, split=split)
    columns = tokens[: rows * batch].view(batch, rows).t()
    return columns.contiguous() if tokens.dtype == torch.int64 else columns


class Windows:
    """The windows of one pass: of `bptt` tokens, or of random lengths up to `longest` (Merity et al. 2018).

    The position in a pass is the number of windows already done. Lengths depend on (seed, epoch) alone, so that a pass
    can be resumed from this number. The caller carries the hidden states from window to window.
    """

    def __init__(
        self,
        rows: Tensor,
        bptt: int,
        *,
        variable: bool = False,
        longest: int | None = None,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        self.rows = rows
        self._starts = [0]
        last = rows.shape[0] - 1
        if not variable:
            self._starts = list(range(0, last, bptt))
        else:
            random = generator(seed, "bptt", epoch)
            # As in the published AWD-LSTM: normal around bptt, or in one window of 20 around half of it, at least 5.
            while True:
                mean = bptt if float(torch.rand((), generator=random)) < 0.95 else bptt / 2
                length = max(5, int(torch.normal(mean, 5.0, (), generator=random)))
                length = length if longest is None else min(length, longest)
                if self._starts[-1] + length >= last - 1:
                    break
                self._starts.append(self._starts[-1] + length)
        self._ends = [*self._starts[1:], last]

    def __len__(self) -> int:
        return len(self._starts)

    def after(self, position: int) -> Iterator[Batch]:
        """The windows from number `position` on."""
        for i in range(position, len(self)):
            window = self.rows[self._starts[i] : self._ends[i] + 1].to(torch.int64).contiguous()
            yield Batch(i, window[:-1], window[1:])


class Labelled(Protocol):
    """Sequences with a class each. labels: int64 [sequences]. inputs(chosen): those of so many, as a batch has them."""

    @property
    def labels(self) -> Tensor: ...

    def inputs(self, chosen: Tensor) -> Tensor: ...


class Shuffled:
    """The sequences of a split in batches: in a random order that `key` determines, or in their own without a key."""

    def __init__(self, split: Labelled, batch: int, key: tuple[object, ...] | None = None) -> None:
        self.split, self.batch = split, batch
        count = len(split.labels)
        order = torch.arange(count) if key is None else torch.randperm(count, generator=generator(*key))
        self._order = order.to(split.labels.device)

    def __len__(self) -> int:
        return -(-len(self._order) // self.batch)

    def after(self, position: int) -> Iterator[Batch]:
        """The batches from number `position` on; the last one may be smaller."""
        for i in range(position, len(self)):
            chosen = self._order[i * self.batch : (i + 1) * self.batch]
            yield Batch(i, self.split.inputs(chosen), self.split.labels[chosen])


class Fresh:
    """One pass over a drawn problem: batches of new sequences, which the key and a batch's number determine."""

    def __init__(self, problem: Drawn, batch: int, device: torch.device, key: tuple[object, ...]) -> None:
        self.problem, self.batch, self.device, self.key = problem, batch, device, key

    def __len__(self) -> int:
        return -(-self.problem.counts["train"] // self.batch)

    def after(self, position: int) -> Iterator[Batch]:
        """The batches from number `position` on; the last one may be smaller."""
        for i in range(position, len(self)):
            count = min(self.batch, self.problem.counts["train"] - i * self.batch)
            drawn = self.problem.draw(count, *self.key, i).to(self.device)
            yield Batch(i, drawn.inputs, drawn.targets)


class InOrder:
    """The sequences of a split of a drawn problem, in batches."""

    def __init__(self, split: DrawnSplit, batch: int) -> None:
        self.split, self.batch = split, batch

    def __len__(self) -> int:
        return -(-self.split.inputs.shape[1] // self.batch)

    def after(self, position: int) -> Iterator[Batch]:
        """The batches from number `position` on; the last one may be smaller."""
        for i in range(position, len(self)):
            part = slice(i * self.batch, (i + 1) * self.batch)
            yield Batch(i, self.split.inputs[:, part], self.split.targets[..., part])

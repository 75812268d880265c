"""Problems whose sequences are drawn: the adding and the copying problem; each one's dataclass is its configuration.

Training sequences are new in every step, drawn from the run's seed, the epoch and the step. Those of validation and
test are the same in all runs of one configuration.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sparse_rnn.core.bounds import check_whole
from sparse_rnn.core.random import generator
from sparse_rnn.core.registry import register

LONGEST = 100_000  # steps
MOST = 10_000_000  # sequences
SYMBOLS, BLANK, DELIMITER = 8, 8, 9  # those to be copied are 0 to 7
COPIED = 10


@dataclass(frozen=True)
class DrawnSplit:
    """inputs: numbers, float32 [T, N, 2], or symbols, int64 [T, N]. targets: float32 [N] or int64 [T, N]."""

    inputs: Tensor
    targets: Tensor

    def first(self, sequences: int) -> "DrawnSplit":
        """The first sequences."""
        return DrawnSplit(self.inputs[:, :sequences], self.targets[..., :sequences])

    def to(self, device: torch.device) -> "DrawnSplit":
        """The split on a device."""
        return DrawnSplit(self.inputs.to(device), self.targets.to(device))


@dataclass(frozen=True)
class Drawn:
    """A problem: `splits` has the sequences of validation and test, `draw` makes those of training.

    length: steps of a sequence. counts: sequences by split; of the training split, those of an epoch.
    """

    unit: ClassVar[str] = "sequences"
    problem: "Problem"
    splits: Mapping[str, DrawnSplit]
    counts: dict[str, int]
    sha256: str

    @property
    def sizes(self) -> tuple[int, ...]:
        """What a model is built for."""
        return self.problem.sizes()

    @property
    def size_names(self) -> tuple[str, ...]:
        """What `sizes` are numbers of."""
        return self.problem.size_names

    def draw(self, count: int, *key: object) -> DrawnSplit:
        """New sequences, which the key determines."""
        return self.problem.draw(count, generator(self.problem.name, *key))

    def limited(self, train: int | None, other: int | None) -> "Drawn":
        """Fewer sequences: as many as fit into `train` and `other` steps, at least one (None: all)."""
        steps = {"train": train, "valid": other, "test": other}
        most = {name: MOST if limit is None else max(1, limit // self.problem.steps) for name, limit in steps.items()}
        counts = {name: min(count, most[name]) for name, count in self.counts.items()}
        splits = {name: split.first(counts[name]) for name, split in self.splits.items()}
        return replace(self, splits=splits, counts=counts)


@dataclass
class Problem:
    """The base of both problems.

    length: T of the papers, which a network must remember over. train: sequences of an epoch, so that it has train /
    training.batch steps. valid, test: sequences of these splits.
    """

    size_names: ClassVar[tuple[str, ...]]

    name: str
    length: int = 100
    train: int = 20_000
    valid: int = 1_000
    test: int = 1_000

    def __post_init__(self) -> None:
        check_whole("dataset.length", self.length, 2, LONGEST)
        for key in ("train", "valid", "test"):
            check_whole(f"dataset.{key}", getattr(self, key), 1, MOST)

    @property
    def steps(self) -> int:
        """Steps of a sequence."""
        raise NotImplementedError

    def sizes(self) -> tuple[int, ...]:
        """What a model is built for."""
        raise NotImplementedError

    def draw(self, count: int, random: torch.Generator) -> DrawnSplit:
        """So many sequences, drawn one after another."""
        raise NotImplementedError

    def settings(self) -> dict[str, Any]:
        """What decides which sequences are drawn."""
        return asdict(self)

    def load(self) -> Drawn:
        """The problem with its sequences for validation and test."""
        counts = {"train": self.train, "valid": self.valid, "test": self.test}
        splits = {name: self.draw(counts[name], generator(self.name, name, self.length)) for name in ("valid", "test")}
        digest = hashlib.sha256(repr(sorted(self.settings().items())).encode())
        for split in splits.values():
            digest.update(split.inputs.numpy().tobytes() + split.targets.numpy().tobytes())
        return Drawn(self, splits, counts, digest.hexdigest())

    def train_tokens(self, limit: int | None) -> int:
        """The steps of an epoch's sequences, or of as many sequences as fit into `limit`."""
        return self.steps * (self.train if limit is None else min(self.train, max(1, limit // self.steps)))


@register("dataset", "adding")
@dataclass
class Adding(Problem):
    """The adding problem (Hochreiter & Schmidhuber 1997, as in Arjovsky et al. 2016).

    At each of `length` steps a number in [0, 1) and a mark, which is 1 at one place of the first half and at one of the
    second, else 0. The target is the sum of the two marked numbers. Always answering 1 has a mean squared error of 1/6.
    """

    task: ClassVar[str] = "text_classification"
    learns: ClassVar[str] = "sequence_regression"
    reads_numbers: ClassVar[bool] = True
    size_names: ClassVar[tuple[str, ...]] = ("numbers per step", "target")

    name: str = "adding"

    @property
    def steps(self) -> int:
        """Steps of a sequence."""
        return self.length

    def sizes(self) -> tuple[int, ...]:
        """Two numbers at each step, one number as the answer."""
        return 2, 1

    def draw(self, count: int, random: torch.Generator) -> DrawnSplit:
        """See Problem: inputs float32 [length, count, 2], targets float32 [count]."""
        half = self.length // 2
        numbers = torch.rand(self.length, count, generator=random)
        first = torch.randint(half, (count,), generator=random)
        second = torch.randint(half, self.length, (count,), generator=random)
        places = torch.stack([first, second])
        marks = torch.zeros(self.length, count).scatter_(0, places, 1.0)
        return DrawnSplit(torch.stack([numbers, marks], dim=-1), numbers.gather(0, places).sum(dim=0))


@register("dataset", "copying")
@dataclass
class Copying(Problem):
    """The copying memory problem (Hochreiter & Schmidhuber 1997, as in Arjovsky et al. 2016).

    Ten symbols out of eight, `length` - 1 blanks, a delimiter, ten blanks; the target at every step is a blank, and at
    the last ten steps the symbols. Without memory the cross-entropy is at best 10 ln 8 / (length + 20).
    """

    task: ClassVar[str] = "language_modelling"
    learns: ClassVar[str] = "sequence_labelling"
    size_names: ClassVar[tuple[str, ...]] = ("symbols",)

    name: str = "copying"

    @property
    def steps(self) -> int:
        """Steps of a sequence."""
        return self.length + 2 * COPIED

    def sizes(self) -> tuple[int, ...]:
        """Eight symbols, the blank and the delimiter."""
        return (SYMBOLS + 2,)

    @property
    def without_memory(self) -> float:
        """The cross-entropy in nats per step of the best answers that nothing is remembered for."""
        return COPIED * math.log(SYMBOLS) / self.steps

    def draw(self, count: int, random: torch.Generator) -> DrawnSplit:
        """See Problem: inputs and targets int64 [length + 20, count]."""
        symbols = torch.randint(SYMBOLS, (COPIED, count), generator=random)
        inputs = torch.full((self.steps, count), BLANK)
        inputs[:COPIED] = symbols
        inputs[COPIED + self.length - 1] = DELIMITER
        targets = torch.full((self.steps, count), BLANK)
        targets[-COPIED:] = symbols
        return DrawnSplit(inputs, targets)

"""What the trainer asks of a data set."""

from typing import ClassVar, Protocol, Self


class Data(Protocol):
    """A data set in memory: what a model is built for, the number of `unit`s of each split, the SHA-256 of its text."""

    unit: ClassVar[str]

    @property
    def sha256(self) -> str: ...

    @property
    def sizes(self) -> tuple[int, ...]: ...

    @property
    def counts(self) -> dict[str, int]: ...

    def limited(self, train: int | None, other: int | None) -> Self: ...


class DatasetConfig(Protocol):
    """A data set that can be loaded, for one task.

    `sizes()` is what a model is built for, `train_tokens()` the number of training tokens, at most `limit` (None: all);
    both read data only where they are not published, and of tokens None says that nobody knows.
    """

    name: str
    task: ClassVar[str]

    def load(self) -> Data: ...

    def sizes(self) -> tuple[int, ...]: ...

    def train_tokens(self, limit: int | None) -> int | None: ...

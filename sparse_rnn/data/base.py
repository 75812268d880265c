"""What a data set offers to training."""

from typing import ClassVar, Protocol, Self


class Data(Protocol):
    """A data set in memory.

    sizes: what a model is built for, (words,) or (rows of the embedding, classes).
    size_names: what these are numbers of. counts: by split, in `unit`s (tokens or texts, for example). sha256: of the
    text and all that decides how it is numbered. limited(train, other): the beginning of the training split and of each
    other split, of about so many tokens (None: all).
    """

    @property
    def unit(self) -> str: ...

    @property
    def size_names(self) -> tuple[str, ...]: ...

    @property
    def sha256(self) -> str: ...

    @property
    def sizes(self) -> tuple[int, ...]: ...

    @property
    def counts(self) -> dict[str, int]: ...

    def limited(self, train: int | None, other: int | None) -> Self: ...


class DatasetConfig(Protocol):
    """The configuration of a data set for one task; `load()` raises ConfigError if it cannot be had.

    task: what its models are for, see ModelConfig. A data set whose models learn something else from it than that names
    the task in a further `learns`; one of whole sequences has their length as `steps`. `sizes()` is that of the loaded
    data, `train_tokens()` the number of training tokens, at most `limit` (None: all; a result of None: unknown). Both
    read data only where the numbers are not published.
    """

    name: str
    task: ClassVar[str]

    def load(self) -> Data: ...

    def sizes(self) -> tuple[int, ...]: ...

    def train_tokens(self, limit: int | None) -> int | None: ...


def learned(dataset: DatasetConfig) -> str:
    """The name of the task that a model learns from a data set."""
    return str(getattr(dataset, "learns", dataset.task))


def has_words(dataset: DatasetConfig) -> bool:
    """Whether its tokens are words or characters, so that a run keeps a vocabulary."""
    return not reads_numbers(dataset) and learned(dataset) == dataset.task


def reads_numbers(dataset: DatasetConfig) -> bool:
    """Whether a model reads numbers at each step, not a token."""
    return bool(getattr(dataset, "reads_numbers", False))

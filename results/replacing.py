"""Output files: written as a whole or not at all, in a folder that is made where there is none."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.files import atomic


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A draft that takes the place of `path` once it is written, see `atomic`.

    Raises ConfigError if it cannot be written; what was there before stays.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as draft:
            yield draft
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror or error}).") from error

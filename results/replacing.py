"""Files that are whole or as they were before."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sparse_rnn.core.errors import ConfigError


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file beside `path`, of the same ending, that takes its place once it is written. Raises ConfigError if it
    cannot be; what was there before stays."""
    beside = path.with_name(f".{os.getpid()}.{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        beside.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written ({error.strerror or error}).") from error
    finally:
        beside.unlink(missing_ok=True)

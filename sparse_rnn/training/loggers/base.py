"""What every logger does, and several of them as one."""

from collections.abc import Mapping, Sequence
from typing import Protocol

Row = Mapping[str, float | int | str | None]


class Logger(Protocol):
    """Takes rows, each with at least `step` and `epoch`, until the run ends."""

    def row(self, row: Row) -> None: ...

    def finish(self, exit_code: int) -> None: ...


class Loggers:
    """Several loggers as one."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self._loggers = loggers

    def row(self, row: Row) -> None:
        """Pass a row to every logger."""
        for logger in self._loggers:
            logger.row(row)

    def finish(self, exit_code: int) -> None:
        """Close every logger; `exit_code` is that of the process."""
        for logger in self._loggers:
            logger.finish(exit_code)

"""What every logger does, and several of them as one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from sparse_rnn.core.command_line import warn

Row = Mapping[str, float | int | str | None]


class Logger:
    """Takes rows, each with at least `step` and `epoch`, until the run ends."""

    def row(self, row: Row) -> None:
        """Log a row."""
        raise NotImplementedError

    def finish(self, exit_code: int) -> None:
        """Close the log; `exit_code` is that of the process."""
        raise NotImplementedError

    def recorded(self) -> None:
        """After `finish`: the record says that the run is finished."""

    def give_up(self) -> None:
        """After a failure: nothing more will be logged."""


class Loggers(Logger):
    """Several loggers as one."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self._loggers = loggers

    def row(self, row: Row) -> None:
        """Pass a row to every logger."""
        for logger in self._loggers:
            logger.row(row)

    def finish(self, exit_code: int) -> None:
        """Close every logger."""
        for logger in self._loggers:
            logger.finish(exit_code)

    def recorded(self) -> None:
        """Tell every logger."""
        for logger in self._loggers:
            logger.recorded()


class Dispensable(Logger):
    """A logger without which training goes on: whatever it first raises becomes a warning, and ends it."""

    def __init__(self, name: str, logger: Logger) -> None:
        self._name, self._logger, self._failed = name, logger, False

    def row(self, row: Row) -> None:
        """Pass a row on."""
        with self._to_the_first_failure():
            if not self._failed:
                self._logger.row(row)

    def finish(self, exit_code: int) -> None:
        """Close the log."""
        with self._to_the_first_failure():
            if not self._failed:
                self._logger.finish(exit_code)

    @contextmanager
    def _to_the_first_failure(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self._failed = True
            with suppress(Exception):
                self._logger.give_up()
            warn(f"{self._name} has failed ({error}); metrics.jsonl has every row.")

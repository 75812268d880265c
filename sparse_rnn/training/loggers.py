"""Where a run's rows go: metrics.jsonl, W&B, the terminal."""

import json
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sparse_rnn.config.schema import LoggerConfig
from sparse_rnn.core.errors import ConfigError, DamagedFile
from sparse_rnn.core.wording import DAYS_WORTH_NAMING, duration, shown_metric

Row = Mapping[str, float | int | str | None]
STEPS_BEFORE_ESTIMATE = 20
SILENCE_SECONDS = 60.0


class Logger(Protocol):
    """Takes rows that each hold `step` and `epoch`, and ends when the run does."""

    def row(self, row: Row) -> None: ...

    def finish(self, exit_code: int) -> None: ...


class JsonLines:
    """metrics.jsonl: one row a line. A resumed run cuts it back to `cut_at`, where its checkpoint was written.

    Raises DamagedFile if the file is shorter than that.
    """

    def __init__(self, path: Path, cut_at: int) -> None:
        self._path, self._stream = path, path.open("ab")
        if self._stream.seek(0, os.SEEK_END) < cut_at:
            raise DamagedFile(f"{path} has lost rows: remove checkpoint.pt beside it to start the run anew.")
        self._stream.truncate(cut_at)

    def row(self, row: Row) -> None:
        """Append a row."""
        self._stream.write(json.dumps(row).encode() + b"\n")
        self._stream.flush()

    def written(self) -> list[Row]:
        """All rows so far."""
        return [json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines()]

    def position(self) -> int:
        """The length of what is safely on disk, in bytes."""
        os.fsync(self._stream.fileno())
        return self._stream.seek(0, os.SEEK_END)

    def finish(self, exit_code: int) -> None:
        """Close the file."""
        with suppress(OSError):  # of a row that could not be written, which `row` has reported
            self._stream.close()


class WandB:
    """A W&B run of the run's id, with `step` and `epoch` as columns of their own: W&B's step restarts on resume.

    If W&B's own process fails, because it was killed or the disk is full, the run goes on without it.
    """

    def __init__(self, config: LoggerConfig, run_id: str, folder: Path, settings: Mapping[str, Any]) -> None:
        import wandb

        quiet = wandb.Settings(console="off", silent=True, x_disable_stats=True, x_transaction_log_flush_interval=1)
        self._failed = False
        logging.raiseExceptions = False  # else W&B's own log prints tracebacks once the disk is full
        try:
            self._run = wandb.init(
                id=run_id,
                name=run_id,
                resume="allow" if config.mode == "online" else None,
                project=config.project,
                entity=config.entity,
                dir=folder,
                mode="online" if config.mode == "online" else "offline",
                config=dict(settings),
                group=run_id.rsplit("-s", 1)[0],
                tags=[settings[key]["name"] for key in ("model", "dataset", "sparsifier", "optimizer", "budget")],
                settings=quiet,
            )
        except wandb.errors.Error as error:
            reason = str(error).splitlines()[0].rstrip(".")
            raise ConfigError(f"logger.mode=online failed ({reason}): log in, or use logger.mode=offline.") from None
        self._last_step = int(self._run.summary.get("step", 0))

    def lacks(self, row: Row) -> bool:
        """Whether W&B may not have a row of the processes before: they may have been killed before it was sent."""
        return int(row["step"] or 0) >= self._last_step

    def row(self, row: Row) -> None:
        """Log a row."""
        with self._dispensable():
            self._run.log(dict(row))

    def finish(self, exit_code: int) -> None:
        """Close the run, so that every row is on disk."""
        with self._dispensable():
            self._run.finish(exit_code=exit_code)

    @contextmanager
    def _dispensable(self) -> Iterator[None]:
        import wandb

        try:
            yield
        except Exception as error:
            if self._failed:
                return
            self._failed = True
            with suppress(Exception):  # so that it does not try once more when this process exits
                wandb.teardown()
            print(f"warning: W&B has failed ({error}); metrics.jsonl has every row.", file=sys.stderr)


class PatientConsole(Console):
    """A console whose reader may go away, as in `| head`: it falls silent, and the run goes on."""

    def on_broken_pipe(self) -> None:
        """Write to nowhere from now on."""
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class Terminal:
    """A progress bar on a terminal, plain lines elsewhere."""

    def __init__(self, epochs: int, on_cpu: bool, budget: str) -> None:
        self.console = PatientConsole(soft_wrap=True, highlight=False)
        self._epochs, self._on_cpu, self._budget = epochs, on_cpu, budget
        self._spoken = time.monotonic()
        self._bar: Progress | None = None
        if self.console.is_terminal:
            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=10),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[facts]}"),
                console=self.console,
            )
            self._task = self._bar.add_task("training", total=1.0, facts="")
        self._first: tuple[float, float] | None = None
        self._seen = 0

    def say(self, text: str) -> None:
        """A line of text."""
        self.console.print(text, markup=False)
        self._spoken = time.monotonic()

    def step(
        self, epoch: int, progress: float, metrics: Mapping[str, float], tokens_per_second: float, sparsity: float
    ) -> None:
        """Advance the bar; estimate the run's length once."""
        if self._bar:
            self._bar.start()
            shown = "  ".join(f"{name} {value:,.3f}" for name, value in metrics.items())
            facts = f"{shown}  {tokens_per_second:,.0f} tokens/s  sparsity {sparsity:.3f}"
            description = f"epoch {epoch + 1}/{self._epochs}"
            self._bar.update(self._task, completed=progress, description=description, facts=facts)
        self._seen += 1
        if self._first is None:
            self._first = (time.monotonic(), progress)
        elif self._seen == STEPS_BEFORE_ESTIMATE + 1:
            self._estimate(progress)

    def _estimate(self, progress: float) -> None:
        assert self._first is not None
        started, first = self._first
        seconds = (time.monotonic() - started) / max(progress - first, 1e-12) * (1 - progress)
        advice = ""
        if self._on_cpu and seconds > DAYS_WORTH_NAMING * 86400 and self._budget == "paper":
            advice = " on this CPU; budget=reduced is a size that a CPU trains in under an hour"
        self.say(f"This run will take about {duration(seconds)} more{advice}.")

    def row(self, row: Row) -> None:
        """A line an epoch; off a terminal also one of training loss if there was none for a minute."""
        if "train/loss_recent" in row and not self._bar and time.monotonic() - self._spoken > SILENCE_SECONDS:
            loss = row["train/loss_recent"]
            self.say(f"epoch {row['epoch']:>3}/{self._epochs}  step {row['step']:,}  train loss {loss:.3f}")
        if "valid/loss" in row:
            moved = "topology/removed" in row and "rate/removal" in row
            rate = f"  removal rate {row['rate/removal']:.3f}" if moved else ""
            averaged = "  averaged" if row.get("averaging/evaluated") else ""
            self.say(
                f"epoch {row['epoch']:>3}/{self._epochs}  train {shown_metric(row, 'train'):>8}  "
                f"valid {shown_metric(row, 'valid'):>8}  sparsity {row['sparsity/model']:.4f}{rate}  "
                f"{row['throughput/tokens_per_second']:,.0f} tokens/s{averaged}"
            )

    def finish(self, exit_code: int) -> None:
        """Take the bar away."""
        if self._bar:
            self._bar.stop()


class Loggers:
    """Several loggers as one."""

    def __init__(self, loggers: Sequence[Logger]) -> None:
        self._loggers = loggers

    def row(self, row: Row) -> None:
        """Give a row to each."""
        for logger in self._loggers:
            logger.row(row)

    def finish(self, exit_code: int) -> None:
        """End each."""
        for logger in self._loggers:
            logger.finish(exit_code)

"""What a person sees of a run: a progress bar on a terminal, plain lines elsewhere."""

import os
import sys
import time
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sparse_rnn.core.wording import DAYS_WORTH_NAMING, duration, shown_metric
from sparse_rnn.training.loggers.base import Row

STEPS_BEFORE_ESTIMATE = 20
SILENCE_SECONDS = 60.0


class PatientConsole(Console):
    """A console whose reader may go away, as in `| head`: it falls silent, and training continues."""

    def on_broken_pipe(self) -> None:
        """Send all further output to the null device."""
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
        """Print a line of text."""
        self.console.print(text, markup=False)
        self._spoken = time.monotonic()

    def step(
        self, epoch: int, progress: float, metrics: Mapping[str, float], tokens_per_second: float, sparsity: float
    ) -> None:
        """Advance the bar; after STEPS_BEFORE_ESTIMATE steps, say once how long the run will take.

        progress: share of all training that is done, in [0, 1]. metrics: those of this epoch so far, by name.
        """
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
        """One line per epoch. Without a bar, also the training loss after SILENCE_SECONDS without a line."""
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
        """Remove the bar."""
        if self._bar:
            self._bar.stop()

"""What a person sees of a run: a progress bar on a terminal, plain lines elsewhere."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from sparse_rnn.core.wording import DAYS_WORTH_NAMING, duration, shown_metric
from sparse_rnn.training.loggers.base import Logger, Row

STEPS_BEFORE_ESTIMATE = 20
SILENCE_SECONDS = 60.0
GAP = "  "


class Bar(Progress):
    """Epoch, bar, share and time left, and `facts`: beside them, or below where the terminal is too narrow for both."""

    facts: Sequence[str] = ()

    def get_renderables(self) -> Iterator[RenderableType]:
        """What is drawn anew each time."""
        yield BesideOrBelow(self.make_tasks_table(self.tasks), self.facts)


@dataclass
class BesideOrBelow:
    """A line and facts about it. Those for which a line of their own has no room are left out, the last ones first."""

    line: Table
    facts: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        facts = Text(GAP.join(self.facts), no_wrap=True)
        if Measurement.get(console, options, self.line).maximum + 1 + facts.cell_len <= options.max_width:
            both = Table.grid(padding=(0, 1))
            both.add_row(self.line, facts)
            yield both
        else:
            yield self.line
            yield Text(fitting(self.facts, options.max_width), no_wrap=True)


def fitting(texts: Sequence[str], width: int) -> str:
    """The first of these texts, as many as fit in one line of `width` characters."""
    shown = list(texts)
    while shown and len(GAP.join(shown)) > width:
        shown.pop()
    return GAP.join(shown)


class Terminal(Logger):
    """A progress bar on a terminal, plain lines elsewhere."""

    def __init__(self, epochs: int, on_cpu: bool, budget: str) -> None:
        self.console = Console(soft_wrap=True, highlight=False)
        self._epochs, self._on_cpu, self._budget = epochs, on_cpu, budget
        self._spoken = time.monotonic()
        self._bar: Bar | None = None
        if self.console.is_terminal:
            self._bar = Bar(
                TextColumn("{task.description}"),
                BarColumn(bar_width=10),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeRemainingColumn(),
                console=self.console,
            )
            self._task = self._bar.add_task("training", total=1.0)
        self._first: tuple[float, float] | None = None
        self._seen = 0

    def say(self, text: str) -> None:
        """Print a line of text."""
        self.console.print(text, markup=False)
        self._spoken = time.monotonic()

    def columns_left(self, before: str) -> int | None:
        """How many characters a line has room for after these; None where lines are not cut, as in a file."""
        return self.console.width - len(before) if self.console.is_terminal else None

    def step(
        self, epoch: int, progress: float, metrics: Mapping[str, float], tokens_per_second: float, sparsity: float
    ) -> None:
        """Advance the bar; after STEPS_BEFORE_ESTIMATE steps, say once how long the run will take.

        progress: share of all training that is done, in [0, 1]. metrics: those of this epoch so far, by name.
        """
        if self._bar:
            self._bar.start()
            shown = [f"{name} {value:,.3f}" for name, value in metrics.items()]
            self._bar.facts = [*shown, f"{tokens_per_second:,.0f} tokens/s", f"sparsity {sparsity:.3f}"]
            self._bar.update(self._task, completed=progress, description=f"epoch {epoch + 1}/{self._epochs}")
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

"""The numbers of a table: results of the finished runs of each row, beside what the paper prints."""

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.metrics import ACCURACY
from sparse_rnn.tables.declaration import Block, Row

from ..differences import paired
from ..gathering import Gathered, Planned
from ..names import MEAN
from ..reported import ReportedRow, ReportedValue, reported
from ..sources.logs import AVERAGING, FORCED, NO_AVERAGING, NOT_AVERAGED, LoggedRun
from .flop_columns import COLUMNS as FLOPS
from .flop_columns import INTEGRATED, FlopsOfRuns

FLOPS_TRAIN = "flops_train"
SCORES = ("valid", "test", "accuracy")
ENOUGH_FOR_A_MARK = 3
ABOUT_A_PAPER = ("paper", "comparable", "paper_outside_2_std")


@dataclass(frozen=True)
class Cell:
    """One column of one row.

    by_seed: the values of the finished runs. metric: what these are, by its name in core/metrics.py, in the columns of
    SCORES; else empty. expected: the number of seeds. failed: the number of failed runs. reported: what the paper
    prints. comparable: whether the values may be compared with it. best: whether the cell is among the best of its
    block, see names.BOLD. averages: whether its optimizer may average the weights. notes: on that, see `_notes`.
    """

    column: str
    by_seed: Mapping[int, float] = field(default_factory=dict)
    metric: str = ""
    expected: int = 0
    run_ids: tuple[str, ...] = ()
    failed: int = 0
    reported: ReportedValue | None = None
    comparable: bool = True
    best: bool = False
    averages: bool = False
    notes: tuple[str, ...] = ()

    @property
    def values(self) -> tuple[float, ...]:
        """The values in the order of the seeds."""
        return tuple(self.by_seed.values())

    @property
    def mean(self) -> float | None:
        """The mean over the finished seeds, None if there are none."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """The standard deviation of a sample (n - 1); None with fewer than two seeds, or if a value is infinite."""
        return statistics.stdev(self.values) if len(self.values) > 1 and all(map(math.isfinite, self.values)) else None

    @property
    def complete(self) -> bool:
        """Whether every seed is finished."""
        return len(self.values) == self.expected

    @property
    def outside(self) -> bool:
        """Whether the paper's number lies outside mean ± 2 std of at least three seeds at the paper's size."""
        if not self.comparable or self.reported is None or self.mean is None or self.std is None:
            return False
        away = abs(self.mean - self.reported.value) > 2 * self.std
        return self.column in SCORES and len(self.values) >= ENOUGH_FOR_A_MARK and away


@dataclass(frozen=True)
class TableRow:
    """A row. cells: in the order of the columns. note: on the paper's numbers."""

    label: str
    cells: tuple[Cell, ...]
    note: str = ""


@dataclass(frozen=True)
class TableBlock:
    """Rows that are compared with each other. beside: whether the block stands right of the one before."""

    label: str
    beside: bool
    rows: tuple[TableRow, ...]


@dataclass(frozen=True)
class Table:
    """A table filled from logs.

    columns: those of the file, and FLOPs integrated over time if it has training FLOPs. bold: see names.BOLD.
    """

    gathered: Gathered
    blocks: tuple[TableBlock, ...]
    columns: tuple[str, ...]
    bold: str = MEAN


def fill(gathered: Gathered, flops: FlopsOfRuns, bold: str = MEAN) -> Table:
    """A table with the results of its finished runs; raises ConfigError if the paper's numbers cannot be read."""
    columns = gathered.spec.columns
    if FLOPS_TRAIN in columns and INTEGRATED not in columns:
        columns = (*columns, INTEGRATED)
    filler = _Filler(gathered, columns, reported(gathered.spec.name), flops, bold)
    blocks = tuple(filler.block(block) for block in gathered.spec.blocks)
    flops.save()
    return Table(gathered, blocks, columns, bold)


@dataclass(frozen=True)
class _Filler:
    gathered: Gathered
    columns: tuple[str, ...]
    paper: Mapping[tuple[str, str], ReportedRow]
    flops: FlopsOfRuns
    bold: str

    def block(self, block: Block) -> TableBlock:
        rows = [self.row(block, row) for row in block.rows]
        best = [_best(column, [row.cells[k] for row in rows], self.bold) for k, column in enumerate(self.columns)]
        marked = tuple(
            replace(row, cells=tuple(replace(cell, best=number in best[k]) for k, cell in enumerate(row.cells)))
            for number, row in enumerate(rows)
        )
        return TableBlock(block.label, block.beside, marked)

    def row(self, block: Block, row: Row) -> TableRow:
        planned = [run for run in self.gathered.planned if (run.block, run.row) == (block.label, row.label)]
        printed = self.paper.get((block.label, row.label))
        return TableRow(row.label, tuple(self.cells(planned, printed)), printed.note if printed else "")

    def cells(self, planned: Sequence[Planned], printed: ReportedRow | None) -> Iterator[Cell]:
        logged = [self.gathered.run(run) for run in planned]
        finished = [(run, log) for run, log in zip(planned, logged, strict=True) if log is not None and log.final]
        for column in self.columns:
            yield Cell(
                column,
                {run.seed: self.value(column, run, log) for run, log in finished},
                finished[0][1].metric if column in SCORES and finished else "",
                len(planned),
                tuple(run.run_id for run, _ in finished),
                sum(log is not None and log.state == "failed" for log in logged),
                printed.values.get(column) if printed else None,
                self.gathered.comparable,
                averages=column in SCORES and any(log.config["optimizer"]["name"] in AVERAGING for _, log in finished),
                notes=_notes([log for _, log in finished]) if column in SCORES else (),
            )

    def value(self, column: str, planned: Planned, log: LoggedRun) -> float:
        if column in FLOPS:
            return self.flops.ratio(column, planned, log)
        assert log.final is not None
        return float(log.final[_key(column, log)])


def _key(column: str, log: LoggedRun) -> str:
    """The key in a run's last row of the value that a column shows."""
    if column == "parameters":
        return "best/active_parameters"
    if column == ACCURACY.name and log.metric != column:
        raise ConfigError("The column accuracy is for classifiers: a language model has the columns valid and test.")
    return f"best/{'test' if column == ACCURACY.name else column}/{log.metric}"


def _best(column: str, cells: Sequence[Cell], bold: str) -> set[int]:
    """The positions of the cells with the best mean, if at least two have one; by SIGNIFICANT see names.BOLD."""
    means = {number: cell.mean for number, cell in enumerate(cells) if cell.mean is not None}
    finite = [mean for mean in means.values() if math.isfinite(mean)]
    if column not in SCORES or len(means) < 2 or not finite:
        return set()
    best = max(finite) if any(cell.metric == ACCURACY.name for cell in cells) else min(finite)
    first = {number for number, mean in means.items() if mean == best}
    if bold == MEAN:
        return first
    leader = cells[min(first)]
    told = {number: paired(cells[number].by_seed, leader.by_seed) for number in means if cells[number] is not leader}
    if not any(difference and difference.apart for difference in told.values()):
        return set()
    return first | {
        number for number, each in told.items() if math.isfinite(means[number]) and not (each and each.apart)
    }


def _notes(logs: Sequence[LoggedRun]) -> tuple[str, ...]:
    """What is unusual about the averaged weights, in the order in which tables explain it."""
    found = Counter(words for log in logs for words in log.averaging)
    return tuple(_of(found[words], len(logs), words) for words in (NO_AVERAGING, FORCED, NOT_AVERAGED) if found[words])


def _of(number: int, total: int, what: str) -> str:
    return what if number == total else f"{what} in {number} of {total}"


def lines(table: Table) -> Iterator[dict[str, Any]]:
    """Every cell as one line of a CSV file, by its keys; those about a paper only in a table of a paper."""
    left_out = () if table.gathered.of_a_paper else ABOUT_A_PAPER
    for block in table.blocks:
        for row in block.rows:
            for cell in row.cells:
                line = {
                    "table": table.gathered.spec.name,
                    "block": block.label,
                    "row": row.label,
                    "column": cell.column,
                    "mean": cell.mean,
                    "std": cell.std,
                    "n": len(cell.values),
                    "seeds": cell.expected,
                    "failed": cell.failed,
                    "paper": cell.reported.text if cell.reported else None,
                    "comparable": cell.comparable,
                    "paper_outside_2_std": cell.outside,
                    "best": cell.best,
                    "notes": "; ".join(cell.notes),
                    "run_ids": " ".join(cell.run_ids),
                }
                yield {key: value for key, value in line.items() if key not in left_out}

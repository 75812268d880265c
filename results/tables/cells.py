"""A table's cells: what the finished runs of each row say, and what the paper does."""

import math
import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from results.gathering import Asked, Planned
from results.reported import Reported, ReportedValue, reported
from results.sources.logs import FORCED, NO_AVERAGING, NOT_AVERAGED, LoggedRun
from results.tables.flop_columns import COLUMNS as FLOPS
from results.tables.flop_columns import INTEGRATED, FlopsOfRuns
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.tables.declaration import Block, Row

FLOPS_TRAIN = "flops_train"
SCORES = ("valid", "test", "accuracy")
ENOUGH_FOR_A_MARK = 3


@dataclass(frozen=True)
class Cell:
    """One column of one row. values: of the finished runs, by seed; accuracy: whether that is what they are, as shares.
    expected: how many there should be.

    reported: what the paper prints. best: the best mean of its block. notes: what a reader must know of the runs.
    """

    column: str
    values: tuple[float, ...] = ()
    accuracy: bool = False
    expected: int = 0
    run_ids: tuple[str, ...] = ()
    failed: int = 0
    reported: ReportedValue | None = None
    comparable: bool = True
    best: bool = False
    notes: tuple[str, ...] = ()

    @property
    def mean(self) -> float | None:
        """Over the seeds that are finished."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Of a sample (n - 1); None with less than two seeds, or if one is infinite."""
        return statistics.stdev(self.values) if len(self.values) > 1 and all(map(math.isfinite, self.values)) else None

    @property
    def complete(self) -> bool:
        """Whether every seed is there."""
        return len(self.values) == self.expected

    @property
    def outside(self) -> bool:
        """Whether the paper's number lies outside mean ± 2 std of three seeds or more that may be compared with it."""
        if not self.comparable or self.reported is None or self.mean is None or self.std is None:
            return False
        away = abs(self.mean - self.reported.value) > 2 * self.std
        return self.column in SCORES and len(self.values) >= ENOUGH_FOR_A_MARK and away


@dataclass(frozen=True)
class TableRow:
    """A row: its label, its cells in the order of the columns, what the paper says of it beyond numbers."""

    label: str
    cells: tuple[Cell, ...]
    note: str = ""


@dataclass(frozen=True)
class TableBlock:
    """Rows that are compared with each other. beside: right of the block before."""

    label: str
    beside: bool
    rows: tuple[TableRow, ...]


@dataclass(frozen=True)
class Table:
    """A table filled from logs.

    columns: of every row; those of the file, and FLOPs integrated over time where it has those of training.
    """

    asked: Asked
    blocks: tuple[TableBlock, ...]
    columns: tuple[str, ...]


def fill(asked: Asked, flops: FlopsOfRuns) -> Table:
    """The cells of a table. Raises ConfigError if the reported numbers cannot be read."""
    columns = asked.spec.columns
    if FLOPS_TRAIN in columns and INTEGRATED not in columns:
        columns = (*columns, INTEGRATED)
    filler = _Filler(asked, columns, reported(asked.spec.name), flops)
    blocks = tuple(filler.block(block) for block in asked.spec.blocks)
    flops.save()
    return Table(asked, blocks, columns)


@dataclass(frozen=True)
class _Filler:
    asked: Asked
    columns: tuple[str, ...]
    paper: Mapping[tuple[str, str], Reported]
    flops: FlopsOfRuns

    def block(self, block: Block) -> TableBlock:
        rows = [self.row(block, row) for row in block.rows]
        best = [_best(column, [row.cells[k] for row in rows]) for k, column in enumerate(self.columns)]
        marked = tuple(
            replace(row, cells=tuple(replace(cell, best=number in best[k]) for k, cell in enumerate(row.cells)))
            for number, row in enumerate(rows)
        )
        return TableBlock(block.label, block.beside, marked)

    def row(self, block: Block, row: Row) -> TableRow:
        planned = [run for run in self.asked.planned if (run.block, run.row) == (block.label, row.label)]
        said = self.paper.get((block.label, row.label))
        return TableRow(row.label, tuple(self.cells(planned, said)), said.note if said else "")

    def cells(self, planned: Sequence[Planned], said: Reported | None) -> Iterator[Cell]:
        logged = [self.asked.run(run) for run in planned]
        finished = [(run, log) for run, log in zip(planned, logged, strict=True) if log is not None and log.final]
        for column in self.columns:
            yield Cell(
                column,
                tuple(self.value(column, run, log) for run, log in finished),
                column in SCORES and any(log.metric == "accuracy" for _, log in finished),
                len(planned),
                tuple(run.run_id for run, _ in finished),
                sum(log is not None and log.state == "failed" for log in logged),
                said.values.get(column) if said else None,
                self.asked.comparable,
                notes=_notes([log for _, log in finished]) if column in SCORES else (),
            )

    def value(self, column: str, planned: Planned, log: LoggedRun) -> float:
        if column in FLOPS:
            return self.flops.ratio(column, planned, log)
        assert log.final is not None
        return float(log.final[_key(column, log)])


def _key(column: str, log: LoggedRun) -> str:
    """The key of the last row that a column prints."""
    if column == "parameters":
        return "best/active_parameters"
    if column == "accuracy" and log.metric != column:
        raise ConfigError("The column accuracy is of classifiers: a language model has valid and test.")
    return f"best/{'test' if column == 'accuracy' else column}/{log.metric}"


def _best(column: str, cells: Sequence[Cell]) -> set[int]:
    """The rows with the best mean, if at least two have one."""
    means = {number: cell.mean for number, cell in enumerate(cells) if cell.mean is not None}
    finite = [mean for mean in means.values() if math.isfinite(mean)]
    if column not in SCORES or len(means) < 2 or not finite:
        return set()
    best = max(finite) if any(cell.accuracy for cell in cells) else min(finite)
    return {number for number, mean in means.items() if mean == best}


def _notes(logs: Sequence[LoggedRun]) -> tuple[str, ...]:
    """Whether averages are what they should be, in the order in which tables explain it."""
    found = Counter(words for log in logs for words in log.averaging)
    return tuple(_of(found[words], len(logs), words) for words in (NO_AVERAGING, FORCED, NOT_AVERAGED) if found[words])


def _of(number: int, total: int, what: str) -> str:
    return what if number == total else f"{what} in {number} of {total}"


def lines(table: Table) -> Iterator[dict[str, Any]]:
    """Every cell as a line of a CSV file."""
    for block in table.blocks:
        for row in block.rows:
            for cell in row.cells:
                yield {
                    "table": table.asked.spec.name,
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

"""Every table by its name, ready to be written."""

from dataclasses import dataclass

from ..gathering import Gathered
from ..names import MEAN
from .cells import fill, lines
from .flop_columns import FlopsOfRuns
from .grid import Grid
from .layout import lay_out
from .render import grid_csv, lines_csv


@dataclass(frozen=True)
class FilledTable:
    """A table as texts on a page, and its numbers as CSV: one line per cell, or per row if it needs no runs."""

    grid: Grid
    csv: str


def make_table(name: str, gathered: Gathered | None, command: str, bold: str = MEAN) -> FilledTable:
    """A table from its runs, or from declarations if `gathered` is None.

    command: the command line that makes it, for the footer. bold: see names.BOLD. Raises ConfigError.
    """
    if gathered is None:
        from .declared import DECLARED  # composes configurations, which tables of runs need not wait for

        grid = DECLARED[name]()
        return FilledTable(grid, grid_csv(grid))
    flops = FlopsOfRuns(gathered.planned)
    table = fill(gathered, flops, bold)
    return FilledTable(lay_out(table, flops, command), lines_csv(lines(table)))

"""The layout of a table of runs: in the paper's order, with its numbers beside, and notes and provenance below."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sparse_rnn.core.metrics import ACCURACY, METRICS, PERPLEXITY, metric_named
from sparse_rnn.core.wording import counted, plural, ranges, scientific

from ..names import MEAN, SIGNIFICANT
from ..sources.logs import FORCED, NO_AVERAGING, NOT_AVERAGED, LoggedRun
from ..sweeps import missing_note
from .cells import SCORES, Cell, Table, TableBlock, TableRow
from .flop_columns import INTEGRATED, FlopsOfRuns
from .grid import Field, Grid, Heading, Section

NAMES = {"flops_train": "FLOPs (train)", "flops_test": "FLOPs (test)", INTEGRATED: "FLOPs (train, over time)"}
WIDEST = 13  # columns of numbers; blocks that would need more stand one below the other
NOTHING = Field("")
LITERATURE = Field("-", muted=True)
OUTSIDE = "†"
INTERVAL = "the 95 % interval of the difference, paired over seeds (Student's t),"
MARKS = {
    NO_AVERAGING: "No averaging: the trigger of NT-ASGD and SNT-ASGD never fired; these are the weights as they were.",
    FORCED: "Averaging forced: the trigger had not fired by the epoch at which the budget begins to average.",
    NOT_AVERAGED: "Not averaged: the best validation was before averaging began.",
}

MILLION = 1e6
Columns = Sequence[tuple[str, bool]]


def lay_out(table: Table, flops: FlopsOfRuns | None, command: str) -> Grid:
    """A table as texts in their places. flops: needed if it has such columns. command: makes it, for the footer."""
    spec, columns = table.gathered.spec, _columns(table)
    bands = list(_bands(table.blocks))
    if max(len(band) for band in bands) * len(columns) > WIDEST:
        bands = [[block] for block in table.blocks]
    width = max(len(band) for band in bands)
    shared = (FORCED,) if _all_forced(table) else ()
    return Grid(
        spec.name,
        table.gathered.title,
        spec.source,
        tuple(_header(table, columns, bands[0], width)),
        tuple(_section(columns, band, width, shared, labelled=len(bands) > 1 or width == 1) for band in bands),
        tuple(_notes(table, flops)),
        tuple(_footer(table, command)),
    )


def _bands(blocks: Sequence[TableBlock]) -> Iterator[list[TableBlock]]:
    """The blocks, in lists of those that stand side by side."""
    band: list[TableBlock] = []
    for block in blocks:
        if band and not block.beside:
            yield band
            band = []
        band.append(block)
    yield band


def _cells(table: Table) -> Iterator[Cell]:
    return (cell for block in table.blocks for row in block.rows for cell in row.cells)


def _all_forced(table: Table) -> bool:
    """Whether averaging was forced in all runs that average, as a small budget does: then it is said once, below."""
    rows = [row for block in table.blocks for row in block.rows if any(cell.averages for cell in row.cells)]
    return len(rows) > 1 and {cell.notes for row in rows for cell in row.cells if cell.averages} == {(FORCED,)}


def _columns(table: Table) -> Columns:
    """The columns of a block: each with its name, and whether it holds the paper's numbers."""
    reported = {cell.column for cell in _cells(table) if cell.reported}
    return [(column, paper) for column in table.gathered.spec.columns for paper in sorted({False, column in reported})]


def _header(table: Table, columns: Columns, band: Sequence[TableBlock], width: int) -> Iterator[tuple[Heading, ...]]:
    """The names of the columns, and above them those of the blocks if all bands have the same width."""
    if len(band) == width > 1:
        yield (Heading(""), *(Heading(block.label, len(columns)) for block in band))
    paper = "paper" if table.gathered.comparable else "paper (full size)"
    names = [paper if is_paper else NAMES.get(column, column) for column, is_paper in columns]
    yield (Heading(""), *(Heading(name) for _ in range(width) for name in names))


def _section(
    columns: Columns, band: Sequence[TableBlock], width: int, shared: Sequence[str], *, labelled: bool
) -> Section:
    labels = list(dict.fromkeys(row.label for block in band for row in block.rows))
    rows = []
    for label in labels:
        fields = [Field(label)]
        for block in band:
            row = next((row for row in block.rows if row.label == label), None)
            fields.extend(_fields(columns, row, shared))
        fields.extend([NOTHING] * (len(columns) * (width - len(band))))
        rows.append(tuple(fields))
    title = " | ".join(block.label for block in band) if labelled else ""
    return Section(title, tuple(rows))


def _fields(columns: Columns, row: TableRow | None, shared: Sequence[str]) -> Iterator[Field]:
    for column, paper in columns:
        cell = _cell(row, column) if row else None
        if cell is None:
            yield NOTHING
        elif paper:
            yield Field(cell.reported.text if cell.reported else "")
        else:
            yield _field(cell, shared)


def _field(cell: Cell, shared: Sequence[str]) -> Field:
    """The text of a field: the mean, its deviation, and the marks that qualify it but for those in `shared`."""
    if not cell.expected:
        return LITERATURE
    mean = cell.mean
    if mean is None:
        return Field("failed" if cell.failed else "missing", muted=True)
    text = number(cell.column, mean, metric=cell.metric)
    if cell.column not in SCORES:
        return Field(text)
    if cell.std is not None:
        text += f" ± {number(cell.column, cell.std, metric=cell.metric)}"
    marks = [
        *(note for note in cell.notes if note not in shared),
        *([] if cell.complete else [f"{len(cell.values)}/{counted(cell.expected, 'seed')}"]),
    ]
    text += OUTSIDE if cell.outside else ""
    return Field(text + (f" ({', '.join(marks)})" if marks else ""), bold=cell.best)


def number(column: str, value: float, *, metric: str = "") -> str:
    """A number as its column shows it: perplexity with two decimals, accuracy in per cent, parameters in millions.

    metric: of the runs, in the columns of SCORES.
    """
    if math.isnan(value):
        return "nan" if column in SCORES else "unknown"
    if column == "parameters":
        return f"{value / MILLION:.1f}M" if value >= MILLION / 10 else f"{value / MILLION:.3f}M"
    if column.startswith("flops"):
        return f"{value:.3f}x"
    judged = metric_named(metric)
    if judged and judged.is_share:
        return judged.shown(value)
    return f"{value:.{judged.decimals if judged else 2}f}" if value < MILLION else scientific(value)


def _notes(table: Table, flops: FlopsOfRuns | None) -> Iterator[str]:
    cells = list(_cells(table))
    yield from _comparability(table)
    yield from _metrics(cells)
    yield from _bold(table)
    if any(cell.std is not None for cell in cells):
        yield "Mean ± standard deviation over seeds."
    if any(cell.outside for cell in cells):
        yield f"{OUTSIDE} The paper's number lies outside mean ± 2 standard deviations."
    for words, explained in MARKS.items():
        if any(note.startswith(words) for cell in cells for note in cell.notes):
            yield explained.replace(":", " in every run that averages:", 1) if _all_forced(table) else explained
    yield from _assumed(table)
    if flops is not None and any(name.startswith("flops") for name in table.columns):
        yield from _flops_notes(table, flops)
    yield from _row_notes(table)
    if table.gathered.training and (missing := table.gathered.missing):
        yield missing_note(missing, table.gathered.planned, table.gathered.training)


def _metrics(cells: Sequence[Cell]) -> Iterator[str]:
    """What the columns valid and test show, where it is neither perplexity nor, by its per cent, accuracy alone."""
    shown = [metric for metric in METRICS if any(cell.metric == metric.name for cell in cells)]
    if any(metric not in (ACCURACY, PERPLEXITY) for metric in shown):
        yield f"valid and test are {' or '.join(metric.words for metric in shown)}."


def _bold(table: Table) -> Iterator[str]:
    """What is bold, or why nothing is."""
    marked = any(cell.best for cell in _cells(table))
    if table.bold == MEAN and marked:
        yield "Bold: the best mean of its block."
    elif table.bold == SIGNIFICANT and marked:
        yield f"Bold: the best mean of its block, and all that cannot be told from it: {INTERVAL} contains zero."
    elif table.bold == SIGNIFICANT:
        yield f"Nothing is bold: in no block can the best mean be told from another, because {INTERVAL} contains zero."


def _assumed(table: Table) -> Iterator[str]:
    """What the recipes assume because the papers do not say it."""
    recipes = [run.facts.config["recipe"] for run in table.gathered.planned]
    for name, assumed in dict.fromkeys((recipe["name"], recipe.get("assumed")) for recipe in recipes):
        if assumed:
            yield f"Assumed by the recipe {name}: {assumed}."


def _row_notes(table: Table) -> Iterator[str]:
    """The notes on the paper's numbers, each once with all rows that it applies to."""
    rows: dict[str, list[str]] = {}
    for block in table.blocks:
        for row in block.rows:
            rows.setdefault(row.note, []).append(f"{row.label} ({block.label})")
    everywhere = sum(len(block.rows) for block in table.blocks)
    for note, labels in rows.items():
        if note:
            yield note if len(labels) == everywhere else f"{', '.join(labels)}: {note}"


def _comparability(table: Table) -> Iterator[str]:
    if table.gathered.comparable or not any(cell.reported for cell in _cells(table)):
        return
    budgets = sorted({run.facts.config["budget"]["name"] for run in table.gathered.planned})
    changes = [override for override in table.gathered.overrides if not override.startswith("budget=")]
    said = [*(f"budget {name}" for name in budgets if name != "paper"), *changes]
    yield f"Not comparable with the paper's numbers: {', '.join(said)}."


def _flops_notes(table: Table, flops: FlopsOfRuns) -> Iterator[str]:
    for (model, dataset), dense in flops.dense.items():
        train, test = scientific(dense["flops_train"] or None), scientific(dense["flops_test"])
        yield f"FLOPs of the dense {model} on {dataset}: {train} to train, {test} for one minibatch of test."
    differing = [
        f"{row.label} ({block.label}) {number(INTEGRATED, over_time.mean)} over time"
        for block in table.blocks
        for row in block.rows
        for final, over_time in [(_cell(row, "flops_train"), _cell(row, INTEGRATED))]
        if final and over_time and final.mean and over_time.mean and abs(final.mean - over_time.mean) >= 0.005
    ]
    if differing:
        yield f"Counted at every step instead of by the distribution at the end: {', '.join(differing)}."


def _cell(row: TableRow, column: str) -> Cell | None:
    return next((cell for cell in row.cells if cell.column == column), None)


def _footer(table: Table, command: str) -> Iterator[str]:
    gathered = table.gathered
    wanted = {run.run_id for run in gathered.planned}
    finished = {run.run_id: log for run, log in gathered.finished()}
    configs = [run.facts.config for run in gathered.planned]
    seeds = {run.seed for run in gathered.planned}
    yield (
        f"Runs: {len(finished)} of {len(wanted)} finished (the CSV has their ids), "
        f"{plural('seed', len(seeds))} {ranges(seeds)}"
    )
    for what in ("budget", "protocol"):
        yield f"{what.capitalize()}: {', '.join(dict.fromkeys(config[what]['name'] for config in configs))}"
    if finished:
        yield f"Computed: {', '.join(_computed(finished.values()))}"
        yield f"Commit: {', '.join(_commits(finished.values()))}"
        newest = max(log.final["clock/finished"] for log in finished.values() if log.final)
        yield f"Newest run: {datetime.fromtimestamp(newest, UTC):%Y-%m-%d}"
    yield f"Source: {gathered.logs.source}"
    yield f"Made by: {command}"


def _computed(logs: Iterable[LoggedRun]) -> list[str]:
    """The precisions that the runs were trained in, and on which kind of device."""
    said = set()
    for log in logs:
        facts = log.provenance
        where = (
            facts["environment"].get("device_name", "GPUs") if str(facts.get("device")).startswith("cuda") else "CPUs"
        )
        said.add(f"{log.config.get('precision', 'fp32')} on {where}")
    return sorted(said)


def _commits(logs: Iterable[LoggedRun]) -> list[str]:
    """The commits of the runs, a plus for modified code, or the version of the package that was installed."""
    return sorted({_commit(log.provenance["environment"]) for log in logs})


def _commit(environment: Mapping[str, Any]) -> str:
    if environment["commit"]:
        return f"{environment['commit'][:7]}{'+' if environment['modified'] else ''}"
    version = environment.get("packages", {}).get("sparse-rnn")
    return f"none (sparse-rnn {version}, installed)" if version else "unknown"

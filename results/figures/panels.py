"""A declared figure as panels: where each block stands, and what is written below them all."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results.figures.style import Drawing, finish, panels
from results.gathering import Asked
from results.reported import claims
from results.sources.logs import FORCED, NO_AVERAGING
from sparse_rnn.tables.declaration import TableSpec

NAMED = ("budget", "protocol", "dataset")


def by_block(spec: TableSpec, *, width: float = 3.4, height: float = 2.6) -> tuple[Figure, dict[str, Axes]]:
    """A panel for every block, by its label; one that is `beside` stands right of the block before."""
    lines: list[list[str]] = []
    for block in spec.blocks:
        lines[-1].append(block.label) if block.beside else lines.append([block.label])
    columns = max(map(len, lines))
    figure, grid = panels(len(lines), columns, width=max(width, 4.6) if columns == 1 else width, height=height)
    found: dict[str, Axes] = {}
    for axes, line in zip(grid, lines, strict=True):
        for each, label in zip(axes, line, strict=False):
            each.set_title(label)
            found[label] = each
        for each in axes[len(line) :]:
            each.set_visible(False)
    return figure, found


def drawing(asked: Asked, figure: Figure, data: pd.DataFrame, notes: Iterable[str] = ()) -> Drawing:
    """The finished figure, with title, source, and all that a reader must know of its runs."""
    said = (*notes, *(() if data.empty else claimed(asked)), *about(asked))
    warned = warning(asked)
    finish(figure, asked.spec.title, asked.spec.source, said, warning=warned)
    return Drawing(figure, data, (warned, *said) if warned else said)


def warning(asked: Asked) -> str:
    """What a figure says that must not be read as the paper's; empty if it may be."""
    if asked.comparable:
        return ""
    named = [f"{group} {' and '.join(_names(asked, group))}" for group in NAMED]
    other = [override for override in asked.overrides if override.partition("=")[0] not in NAMED]
    return f"With {', '.join([*named, *other])}: not comparable with the paper."


def claimed(asked: Asked) -> Iterator[str]:
    """What the text of the paper says of the figure; raises ConfigError."""
    said = claims(asked.spec.name)
    several = len({claim.row for claim in said}) > 1
    quantities: dict[str, list[str]] = {}
    for claim in said:
        quantities.setdefault(claim.quantity, []).append(f"{claim.row if several else claim.block} {claim.value:g}")
    if said:
        own = "" if asked.comparable else ", of its own runs"
        words = "; ".join(f"{quantity}: {', '.join(values)}" for quantity, values in quantities.items())
        yield f"The paper says{own} ({said[0].source.rpartition(', ')[2]}): {words}."


def about(asked: Asked) -> tuple[str, ...]:
    """What is missing, and what of the runs is not as it should be."""
    missing, planned = {run.run_id for run in asked.missing}, {run.run_id for run in asked.planned}
    logged = {each.run_id: run for each in asked.planned if (run := asked.run(each))}
    failed = sum(run.state == "failed" for run in logged.values())
    finished = sum(run.final is not None for run in logged.values())
    averaging = Counter(words for run in logged.values() for words in run.averaging)
    notes = []
    if missing:
        of_them = f", {failed} of them failed" if failed else ""
        notes.append(f"{len(missing)} of {len(planned)} runs {'is' if len(missing) == 1 else 'are'} missing{of_them}.")
    if forced := averaging[FORCED]:
        notes.append(f"Averaging did not begin by itself and was forced in {forced} of {_runs(finished)}.")
    if never := averaging[NO_AVERAGING]:
        notes.append(f"Averaging never began in {never} of {_runs(finished)}.")
    return tuple(notes)


def _runs(number: int) -> str:
    return f"{number} run{'s' * (number != 1)}"


def _names(asked: Asked, group: str) -> Sequence[str]:
    return list(dict.fromkeys(run.facts.config[group]["name"] for run in asked.planned))

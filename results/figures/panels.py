"""The panels of a declared figure, one per block, and the notes below them."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sparse_rnn.core.wording import counted
from sparse_rnn.data.labels import dataset_name
from sparse_rnn.tables.declaration import TableSpec

from ..gathering import Gathered
from ..reported import claims
from ..sources.logs import FORCED, NO_AVERAGING
from ..sweeps import missing_note
from .style import Drawing, finish, panels

NAMED = ("budget", "protocol", "dataset")


def by_block(spec: TableSpec, *, width: float = 3.4, height: float = 2.6) -> tuple[Figure, dict[str, Axes]]:
    """A figure with one panel per block, and its axes by label; a block with `beside` is right of the one before.

    Sizes are of a panel, in inches.
    """
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


def drawing(gathered: Gathered, figure: Figure, data: pd.DataFrame, notes: Iterable[str] = ()) -> Drawing:
    """The finished figure: with title, source, `notes`, the paper's claims, and what is missing or unusual."""
    said = (*notes, *(() if data.empty else claimed(gathered)), *about(gathered))
    warned = warning(gathered)
    finish(figure, gathered.title, gathered.spec.source, said, warning=warned)
    return Drawing(figure, data, (warned, *said) if warned else said)


def warning(gathered: Gathered) -> str:
    """The sentence on a figure that must not be compared with the paper; empty if it may be."""
    if gathered.comparable or not gathered.of_a_paper:
        return ""
    return f"With {_settings(gathered)}: not comparable with the paper."


def _settings(gathered: Gathered) -> str:
    """What the runs have in common, and what the user has changed."""
    named = [f"{group} {' and '.join(_names(gathered, group))}" for group in NAMED]
    other = [override for override in gathered.overrides if override.partition("=")[0] not in NAMED]
    return ", ".join([*named, *other])


def claimed(gathered: Gathered) -> Iterator[str]:
    """A sentence with the numbers that the paper's text gives for the figure, if any; raises ConfigError."""
    said = claims(gathered.spec.name)
    several = len({claim.row for claim in said}) > 1
    quantities: dict[str, list[str]] = {}
    for claim in said:
        quantities.setdefault(claim.quantity, []).append(f"{claim.row if several else claim.block} {claim.value:g}")
    if said:
        own = "" if gathered.comparable else ", of its own runs"
        words = "; ".join(f"{quantity}: {', '.join(values)}" for quantity, values in quantities.items())
        yield f"The paper says{own} ({said[0].source.rpartition(', ')[2]}): {words}."


def about(gathered: Gathered) -> tuple[str, ...]:
    """Sentences on missing and failed runs, and on averaging that was forced or never began."""
    missing, planned = {run.run_id for run in gathered.missing}, {run.run_id for run in gathered.planned}
    logged = {each.run_id: run for each in gathered.planned if (run := gathered.run(each))}
    failed = sum(run.state == "failed" for run in logged.values())
    finished = sum(run.final is not None for run in logged.values())
    averaging = Counter(words for run in logged.values() for words in run.averaging)
    if gathered.training:
        notes = list(_of_sweep(gathered))
    else:
        notes = [] if gathered.of_a_paper or gathered.comparable else [f"With {_settings(gathered)}."]
    if missing and gathered.training:
        notes.append(missing_note(gathered.missing, gathered.planned, gathered.training))
    elif missing:
        of_them = f", {failed} of them failed" if failed else ""
        are = "is" if len(missing) == 1 else "are"
        notes.append(f"{len(missing)} of {counted(len(planned), 'run')} {are} missing{of_them}.")
    if forced := averaging[FORCED]:
        notes.append(f"Averaging did not begin by itself and was forced in {forced} of {counted(finished, 'run')}.")
    if never := averaging[NO_AVERAGING]:
        notes.append(f"Averaging never began in {never} of {counted(finished, 'run')}.")
    return tuple(notes)


def _of_sweep(gathered: Gathered) -> Iterator[str]:
    """What the runs of a sweep have in common, and how many seeds were averaged."""
    said = [f"{group} {' and '.join(_names(gathered, group))}" for group in NAMED]
    seeds = Counter((planned.block, planned.row, planned.x) for planned, _ in gathered.finished()).values()
    if seeds:
        least, most = min(seeds), max(seeds)
        said.append(
            f"n = {most if least == most else f'{least} to {most}'} of {counted(len(gathered.spec.seeds), 'seed')}"
        )
    yield f"With {', '.join(said)}."


def _names(gathered: Gathered, group: str) -> Sequence[str]:
    chosen = [run.facts.config[group] for run in gathered.planned]
    return list(dict.fromkeys(dataset_name(each) if group == "dataset" else each["name"] for each in chosen))

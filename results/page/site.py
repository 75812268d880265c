"""One page of everything: tables, figures and runs, in an HTML file that needs nothing beside it."""

import shlex
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path

import matplotlib
from markupsafe import Markup

from results import commands, names
from results.figures import catalogue as figures
from results.figures.style import styled
from results.gathering import Asked, declared
from results.page import run_list
from results.replacing import replacing
from results.requests import Request
from results.sources import choice as sources
from results.sources.logs import STATES, Logs
from results.tables.cells import lines
from results.tables.render import grid_csv, html, html_templates, lines_csv
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.runs.folder import runs_root
from sparse_rnn.tables.catalogue import Catalogue

WITHOUT_RUNS = (*names.DECLARED_TABLES, *names.DRAWN_FIGURES)


@dataclass(frozen=True)
class Shown:
    """A table or figure on the page. data: its numbers, in an address that holds them."""

    name: str
    title: str
    body: Markup
    data: str


@dataclass
class Part:
    """All tables, or all figures. empty: the names of those without a finished run, and what they would show; refused:
    the names of those that cannot be made, and why.
    """

    kind: str
    shown: list[Shown] = field(default_factory=list)
    empty: list[tuple[str, str]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


def write_site(request: Request, out: Path) -> Path:
    """Write the page to a file. Raises ConfigError, also if the overrides go with no table and no figure."""
    text = page(request, sources.load(request.source), out.parent)
    with replacing(out) as beside:
        beside.write_text(text, encoding="utf-8")
    return out


def page(request: Request, logs: Logs, folder: Path) -> str:
    """The page as it is to lie in a folder, from which local logs are linked."""
    return html_templates.get_template("site.html").render(
        head=dict(_head(logs, request.arguments)),
        command=request.again("site"),
        training=shlex.join(["python", "-m", "launch", "submit", "NAME", *request.arguments]),
        problems=logs.problems,
        parts=_parts(request, logs),
        headings=run_list.HEADINGS,
        runs=run_list.lines(logs, folder),
    )


def _head(logs: Logs, arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    states = Counter(run.state for run in logs.runs.values())
    yield "Source", logs.source
    yield "Runs", ", ".join(f"{states[state]} {state}" for state in STATES if states[state]) or "none"
    yield "Overrides", shlex.join(arguments) or "none"
    yield "Made on", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def _parts(request: Request, logs: Logs) -> list[Part]:
    catalogue = Catalogue(runs_root() / ".launch")

    def ask(name: str) -> Asked:
        return declared(name, catalogue, overrides=request.overrides, seeds=request.seeds).answered(logs)

    try:
        tables = _part("tables", names.tables(), ask, lambda name, asked: _table(name, asked, request))
        drawn = _part("figures", names.figures(), ask, _figure)
    finally:
        catalogue.save()
    refused = tables.refused + drawn.refused
    if refused and {*names.tables(), *names.figures()} - {*WITHOUT_RUNS} == {name for name, _ in refused}:
        raise ConfigError(f"These overrides go with no table and no figure. Of {refused[0][0]}: {refused[0][1]}")
    return [tables, drawn]


def _part(
    kind: str, known: Sequence[str], ask: Callable[[str], Asked], show: Callable[[str, Asked | None], Shown]
) -> Part:
    part = Part(kind)
    for name in known:
        try:
            asked = None if name in WITHOUT_RUNS else ask(name)
            if asked is not None and not any(asked.finished()):
                part.empty.append((name, f"{asked.spec.title} ({len(asked.missing)} runs)"))
            else:
                part.shown.append(show(name, asked))
        except ConfigError as error:
            part.refused.append((name, str(error)))
    return part


def _table(name: str, asked: Asked | None, request: Request) -> Shown:
    made, grid = commands.filled(name, asked, request)
    data = grid_csv(grid) if made is None else lines_csv(lines(made))
    return Shown(name, grid.title, Markup(html(grid)), _address("text/csv", data))


def _figure(name: str, asked: Asked | None) -> Shown:
    drawing = figures.draw(name, asked)
    title = " ".join(drawing.figure.get_suptitle().split())
    picture = StringIO()
    with styled(), matplotlib.rc_context({"svg.fonttype": "path"}):  # within <img> letters are not text anyway
        drawing.figure.savefig(picture, format="svg", metadata={"Date": None, "Creator": None})
    address = _address("image/svg+xml", picture.getvalue())
    body = html_templates.get_template("figure.html").render(
        name=name, title=title, address=address, notes=drawing.notes
    )
    return Shown(name, title, Markup(body), _address("text/csv", drawing.data.to_csv(index=False, float_format="%.8g")))


def _address(kind: str, text: str) -> str:
    """An address that holds a text."""
    return f"data:{kind};charset=utf-8;base64,{b64encode(text.encode()).decode()}"

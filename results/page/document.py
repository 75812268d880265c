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

from sparse_rnn.core.bounds import refuse_runs
from sparse_rnn.core.command_line import warn_of
from sparse_rnn.core.errors import ConfigError, DamagedFile
from sparse_rnn.core.wording import counted
from sparse_rnn.runs.folder import runs_root
from sparse_rnn.runs.studies import read_study, studies
from sparse_rnn.tables.catalogue import Catalogue
from sparse_rnn.tables.declaration import DECLARED_FIGURES, DECLARED_TABLES, load
from sparse_rnn.tables.expansion import count_runs

from .. import names
from ..figures import by_name as figures
from ..figures import study_history
from ..figures.style import Drawing, styled
from ..gathering import Gathered, plan
from ..replacing import replacing
from ..requests import Request
from ..sources import choice as sources
from ..sources.logs import STATES, Logs
from ..tables import by_name as tables
from ..tables.of_study import grid_of_study
from ..tables.render import html
from ..templates import html_templates
from . import curves, run_list

WITHOUT_RUNS = (*DECLARED_TABLES, *DECLARED_FIGURES)
TEMPLATES = html_templates(Path(__file__).with_name("templates"))


@dataclass(frozen=True)
class Entry:
    """A table or figure on the page. data: a data URL of its numbers as CSV."""

    name: str
    title: str
    body: Markup
    data: str


@dataclass
class Chapter:
    """All tables, all figures, or all studies.

    without_runs: name and title of those of which no run is finished. refused: name and reason of those that cannot be
    made.
    """

    kind: str
    entries: list[Entry] = field(default_factory=list)
    without_runs: list[tuple[str, str]] = field(default_factory=list)
    refused: list[tuple[str, str]] = field(default_factory=list)


def write_page(request: Request, out: Path) -> Path:
    """Write the page to a file. Raises ConfigError, also if the overrides suit no table and no figure."""
    _refuse_unsuitable(request)
    logs = sources.load(request.source)
    warn_of(logs.problems)
    text = page(request, logs, out.parent)
    with replacing(out) as draft:
        draft.write_text(text, encoding="utf-8")
    return out


def _refuse_unsuitable(request: Request) -> None:
    """Raise ConfigError if the overrides suit no table and no figure, before any log is read."""
    catalogue, refused = Catalogue(runs_root() / ".launch"), list[tuple[str, ConfigError]]()
    known = [name for name in (*names.tables(), *names.figures()) if name not in WITHOUT_RUNS]
    refuse_runs(sum(count_runs(load(name), request.seeds) for name in known))
    for name in known:
        try:
            plan(name, catalogue, overrides=request.overrides, seeds=request.seeds)
        except ConfigError as error:
            refused.append((name, error))
        else:
            catalogue.save()
            return
    if refused:
        name, reason = refused[0]
        raise ConfigError(f"These overrides suit no table and no figure. Of {name}: {reason}") from reason


def page(request: Request, logs: Logs, folder: Path) -> str:
    """The HTML of a page that will lie in `folder`: links to local logs are relative to it."""
    return TEMPLATES.get_template("site.html").render(
        head=dict(_head(logs, request.arguments)),
        command=request.again("site"),
        training=shlex.join(["python", "-m", names.LAUNCH, "submit", "NAME", *request.arguments]),
        problems=logs.problems,
        chapters=_chapters(request, logs),
        headings=run_list.HEADINGS,
        runs=run_list.lines(logs, folder),
        curves=curves.as_json(logs),
    )


def _head(logs: Logs, arguments: Sequence[str]) -> Iterator[tuple[str, str]]:
    states = Counter(run.state for run in logs.runs.values())
    yield "Source", logs.source
    yield "Runs", ", ".join(f"{states[state]} {state}" for state in STATES if states[state]) or "none"
    yield "Overrides", shlex.join(arguments) or "none"
    yield "Made on", f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"


def _chapters(request: Request, logs: Logs) -> list[Chapter]:
    catalogue = Catalogue(runs_root() / ".launch")

    def gather(name: str) -> Gathered:
        return plan(name, catalogue, overrides=request.overrides, seeds=request.seeds).with_logs(logs)

    def table(name: str, gathered: Gathered | None) -> Entry:
        made = tables.make_table(name, gathered, request.again("table", name))
        return Entry(name, made.grid.title, Markup(html(made.grid)), _data_url("text/csv", made.csv))

    try:
        of_tables = _chapter("tables", names.tables(), gather, table)
        of_figures = _chapter("figures", names.figures(), gather, _figure)
    finally:
        catalogue.save()
    of_studies = _of_studies(request)
    return [of_tables, of_figures, *([of_studies] if of_studies.entries or of_studies.refused else [])]


def _of_studies(request: Request) -> Chapter:
    """What `launch tune` has tried below the folder of the runs."""
    chapter = Chapter("studies")
    for folder in studies(runs_root()):
        try:
            study = read_study(folder)
        except DamagedFile as error:
            chapter.refused.append((folder.name, str(error)))
            continue
        if study is not None:
            picture = _drawn(study.name, study_history.draw(study))
            table = Markup(html(grid_of_study(study, request.again("tuning", study.name))))
            chapter.entries.append(Entry(study.name, picture.title, picture.body + table, picture.data))
    return chapter


def _chapter(
    kind: str, known: Sequence[str], gather: Callable[[str], Gathered], make: Callable[[str, Gathered | None], Entry]
) -> Chapter:
    chapter = Chapter(kind)
    for name in known:
        try:
            gathered = None if name in WITHOUT_RUNS else gather(name)
            if gathered is not None and not any(gathered.finished()):
                chapter.without_runs.append((name, f"{gathered.title} ({counted(len(gathered.missing), 'run')})"))
            else:
                chapter.entries.append(make(name, gathered))
        except ConfigError as error:
            chapter.refused.append((name, str(error)))
    return chapter


def _figure(name: str, gathered: Gathered | None) -> Entry:
    return _drawn(name, figures.draw(name, gathered))


def _drawn(name: str, drawing: Drawing) -> Entry:
    title = " ".join(drawing.figure.get_suptitle().split())
    picture = StringIO()
    # Letters as outlines: a reader may lack the font, and text within <img> cannot be selected anyway.
    with styled(), matplotlib.rc_context({"svg.fonttype": "path"}):
        drawing.figure.savefig(picture, format="svg", metadata={"Date": None, "Creator": None})
    address = _data_url("image/svg+xml", picture.getvalue())
    body = TEMPLATES.get_template("figure.html").render(name=name, title=title, address=address, notes=drawing.notes)
    return Entry(
        name, title, Markup(body), _data_url("text/csv", drawing.data.to_csv(index=False, float_format="%.8g"))
    )


def _data_url(kind: str, text: str) -> str:
    """A URL that holds a text of that media type itself."""
    return f"data:{kind};charset=utf-8;base64,{b64encode(text.encode()).decode()}"

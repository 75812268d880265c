"""What `python -m results` does: table, figure, site, fetch, sync."""

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from results.gathering import Asked, ask
from results.names import DECLARED_TABLES, DRAWN_FIGURES, RECORDS
from results.replacing import replacing
from results.requests import Request
from results.tables.cells import Table, fill, lines
from results.tables.flop_columns import FlopsOfRuns
from results.tables.grid import Grid
from results.tables.layout import lay_out
from results.tables.render import FORMATS, grid_csv, html, latex, lines_csv, markdown
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.runs.folder import RunFolder, read_record, runs_root

INCOMPLETE = 3
PROBLEMS_SHOWN = 5
FIGURES = Path("results/output/figures")
SITE = Path("results/site.html")
OF_EACH = ("md", "csv", "latex")


class Incomplete(ConfigError):
    """Not every run is finished."""

    exit_code = INCOMPLETE


def table(request: Request) -> None:
    """Print tables, or write them to files."""
    asked = _ask(request, [name for name in request.names if name not in DECLARED_TABLES])
    for name in request.names:
        _write_table(request, name, asked.get(name))
    _refuse_missing(request, asked)


def _ask(request: Request, names: Sequence[str]) -> dict[str, Asked]:
    found = ask(names, source=request.source, overrides=request.overrides, seeds=request.seeds) if names else []
    problems = dict.fromkeys(problem for asked in found for problem in asked.logs.problems)
    for problem in list(problems)[:PROBLEMS_SHOWN]:
        print(f"warning: {problem}", file=sys.stderr)
    if len(problems) > PROBLEMS_SHOWN:
        print(f"warning: and {len(problems) - PROBLEMS_SHOWN} more like these", file=sys.stderr)
    return dict(zip(names, found, strict=True))


def _refuse_missing(request: Request, asked: dict[str, Asked]) -> None:
    """Raise Incomplete unless it is allowed."""
    left = {name: {run.run_id for run in each.missing} for name, each in asked.items() if each.missing}
    if not left or request.allow_missing:
        return
    of_all = {name: len({run.run_id for run in asked[name].planned}) for name in left}
    words = ", ".join(f"{len(ids)} of {of_all[name]} runs of {name}" for name, ids in left.items())
    again = f"python -m launch submit {shlex.join([*left, *request.arguments])}"
    unlogged = [run_id for run_id in set().union(*left.values()) if _is_finished(run_id)]
    if unlogged and request.source != RECORDS:
        again = f"{len(unlogged)} are finished and have no such log, --source {RECORDS} reads them; `{again}`"
    else:
        again = f"`{again}`"
    raise Incomplete(f"{words} have no result: {again} trains what is missing, --allow-missing does without.")


def _is_finished(run_id: str) -> bool:
    record = read_record(RunFolder(runs_root() / run_id))
    return record is not None and record["status"] == "finished"


def filled(name: str, asked: Asked | None, request: Request) -> tuple[Table | None, Grid]:
    """A table's cells, None if it needs no runs, and its page."""
    if asked is None:
        from results.tables.declared import DECLARED

        return None, DECLARED[name]()
    flops = FlopsOfRuns(asked.planned)
    made = fill(asked, flops)
    return made, lay_out(made, flops, request.again("table", name))


def _write_table(request: Request, name: str, asked: Asked | None) -> None:
    made, grid = filled(name, asked, request)
    if request.out is None:
        print(_text(request.format or "md", made, grid), end="\n" if len(request.names) > 1 else "")
        return
    for path, form in _files(request, name):
        with replacing(path) as beside:
            beside.write_text(_text(form, made, grid), encoding="utf-8")
        print(path)


def _files(request: Request, name: str) -> list[tuple[Path, str]]:
    """Where a table goes, and in which format: one file that --out names, or one of each format in its folder."""
    assert request.out is not None
    endings = {f".{ending}": form for form, ending in FORMATS.items()}
    ending = request.out.suffix
    if ending and not request.out.is_dir():
        if ending not in endings:
            raise ConfigError(f"--out {request.out}: a table ends in {', '.join(endings)}; or give a folder.")
        if len(request.names) > 1:
            raise ConfigError(f"--out {request.out} is one file for {len(request.names)} tables: give a folder.")
        if request.format not in (None, endings[ending]):
            raise ConfigError(f"--out {request.out} is no file of --format {request.format}: leave one of them out.")
        return [(request.out, endings[ending])]
    forms = [request.format] if request.format else OF_EACH
    return [(request.out / f"{name}.{FORMATS[form]}", form) for form in forms]


def _text(form: str, made: Table | None, grid: Grid) -> str:
    if form == "csv":
        return grid_csv(grid) if made is None else lines_csv(lines(made))
    return {"md": markdown, "latex": latex, "html": html}[form](grid)


def figure(request: Request) -> None:
    """Draw figures into a folder."""
    from results.figures.catalogue import draw
    from results.figures.style import save

    out = request.out or FIGURES
    if out.suffix and not out.is_dir():
        raise ConfigError(f"--out {out}: a figure is a PNG, an SVG and a CSV, give a folder for them.")
    asked = _ask(request, [name for name in request.names if name not in DRAWN_FIGURES])
    for name in request.names:
        drawing = draw(name, asked.get(name))
        for path in save(drawing.figure, drawing.data, out / name):
            print(path)
        for note in drawing.notes:
            print(f"{name}: {note}", file=sys.stderr)
    _refuse_missing(request, asked)


def site(request: Request) -> None:
    """Write the page of everything."""
    from results.page.site import write_site

    print(write_site(request, request.out or SITE))


def fetch(request: Request) -> None:
    """Mirror an online project to a folder."""
    from results.sources import mirror

    project = _project(request)
    folder = request.out or Path(project.replace("/", "-"))
    mirror.fetch(project, folder)
    print(f"copied to {folder}: read it with --source mirror:{folder}")


def sync(request: Request) -> None:
    """Upload the offline runs."""
    from results.sources import sync as syncing

    syncing.sync(_project(request), request.source)


def _project(request: Request) -> str:
    if len(request.names) != 1 or request.names[0].count("/") != 1:
        raise ConfigError(f"{request.command} needs one project, as in `{request.command} my-lab/sparse_rnn`.")
    return request.names[0]

"""What `python -m results` does: table, figure, findings, compare, tuning, refresh, site, fetch, sync."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

from sparse_rnn.core.command_line import say, warn_of
from sparse_rnn.core.errors import ConfigError, DamagedFile, suggest
from sparse_rnn.core.wording import counted, one_line
from sparse_rnn.runs.folder import RunFolder, load_record, runs_root
from sparse_rnn.runs.studies import Study, read_study, studies
from sparse_rnn.tables.declaration import DECLARED_FIGURES, DECLARED_TABLES

from .comparisons import page, two_sides
from .comparisons.claims import Claim
from .gathering import Gathered, gather
from .names import FORMATS, LAUNCH, RECORDS, stem_of
from .refreshing import refreshed
from .replacing import replacing
from .requests import Request, parse
from .sweeps import NAME as SWEEP
from .tables.by_name import FilledTable, make_table
from .tables.grid import Grid
from .tables.of_study import grid_of_study
from .tables.render import grid_csv, html, latex, markdown

INCOMPLETE = 3
FIGURES = Path("results/output/figures")
SITE = Path("results/site.html")
IN_A_FOLDER = ("md", "csv", "latex")


class Incomplete(ConfigError):
    """Not every run is finished."""

    exit_code = INCOMPLETE


def table(request: Request) -> None:
    """Print tables, or write them to files. Raises ConfigError; Incomplete once all are written."""
    names = request.asked
    if request.out is not None:
        _files(request, names[0])  # refuses what cannot be written to, before the logs are read
    gathered = _gather(request, [name for name in request.names if name not in DECLARED_TABLES])
    for name in names:
        command = request.again("table", *request.words(name))
        _write_table(request, name, make_table(name, gathered.get(name), command, request.bold))
    _refuse_missing(request, gathered)


def _gather(request: Request, names: Sequence[str]) -> dict[str, Gathered]:
    """Tables or figures that need runs, by name; the first problems of the logs go to stderr."""
    if not names and request.sweep is None:
        return {}
    found = gather(
        names,
        source=request.source,
        overrides=request.overrides,
        seeds=request.seeds,
        sweep=request.sweep,
        figure=request.command == "figure",
    )
    warn_of([problem for gathered in found for problem in gathered.logs.problems])
    return dict(zip([*names, *([SWEEP] if request.sweep else [])], found, strict=True))


def _refuse_missing(request: Request, gathered: dict[str, Gathered]) -> None:
    """Raise Incomplete if runs are missing, unless that is allowed."""
    missing = {name: {run.run_id for run in each.missing} for name, each in gathered.items() if each.missing}
    if not missing or request.allow_missing:
        return
    of_all = {name: len({run.run_id for run in gathered[name].planned}) for name in missing}
    called = {name: "the sweep" if name == SWEEP else name for name in missing}
    what = ", ".join(f"{len(ids)} of {counted(of_all[name], 'run')} of {called[name]}" for name, ids in missing.items())
    unlogged = [run_id for run_id in set().union(*missing.values()) if _is_finished(run_id)]
    have = "has" if len(unlogged) == 1 else "have"
    recorded = f"read the {len(unlogged)} that {have} finished with --source {RECORDS}, "
    words = [word for name in missing for word in request.words(name)]
    submit = f"python -m {LAUNCH} submit {shlex.join([*words, *request.arguments])}"
    raise Incomplete(
        f"{what} have no result: {recorded if unlogged and request.source != RECORDS else ''}"
        f"train what is missing with `{submit}`, or accept the gaps with --allow-missing."
    )


def _is_finished(run_id: str) -> bool:
    try:
        record = load_record(RunFolder(runs_root() / run_id))
    except DamagedFile as error:
        warn_of([f"{str(error).removesuffix('.')}: its run is skipped."])
        return False
    return record is not None and record["status"] == "finished"


def _write_table(request: Request, name: str, made: FilledTable) -> None:
    if request.out is None:
        print(_text(request.format or "md", made), end="\n" if len(request.asked) > 1 else "")
        return
    for path, form in _files(request, name):
        with replacing(path) as draft:
            draft.write_text(_text(form, made), encoding="utf-8")
        print(path)


def _files(request: Request, name: str) -> list[tuple[Path, str]]:
    """Where a table goes, and in which format: the one file that --out names, or one per format in its folder."""
    assert request.out is not None
    endings = {f".{ending}": form for form, ending in FORMATS.items()}
    ending = request.out.suffix
    if ending and not request.out.is_dir():
        if ending not in endings:
            raise ConfigError(f"--out {request.out}: a table ends in {', '.join(endings)}; or give a folder.")
        if len(request.asked) > 1:
            raise ConfigError(f"--out {request.out} is one file for {len(request.asked)} tables: give a folder.")
        if request.format not in (None, endings[ending]):
            raise ConfigError(f"--out {request.out} contradicts --format {request.format}: leave one of them out.")
        return [(request.out, endings[ending])]
    forms = [request.format] if request.format else IN_A_FOLDER
    return [(request.out / f"{stem_of(name)}.{FORMATS[form]}", form) for form in forms]


def _text(form: str, made: FilledTable) -> str:
    return made.csv if form == "csv" else {"md": markdown, "latex": latex, "html": html}[form](made.grid)


def figure(request: Request) -> None:
    """Draw figures into a folder. Raises ConfigError; Incomplete once all are drawn."""
    from .figures import by_name, style  # import matplotlib and torch

    out = request.out or FIGURES
    if out.suffix and not out.is_dir():
        raise ConfigError(f"--out {out}: a figure is a PNG, an SVG and a CSV, give a folder for them.")
    gathered = _gather(request, [name for name in request.names if name not in DECLARED_FIGURES])
    for name in request.asked:
        drawing = by_name.draw(name, gathered.get(name))
        for path in style.save(drawing.figure, drawing.data, out / stem_of(name)):
            print(path)
        for note in drawing.notes:
            print(one_line(f"{name}: {note}"), file=sys.stderr)
    _refuse_missing(request, gathered)


def compare(request: Request) -> None:
    """Print how two sets of overrides compare over their seeds. Raises ConfigError; Incomplete once that is printed."""
    gathered = two_sides.gather_sides(request)
    warn_of(gathered.logs.problems)
    sides = [*request.sides, *(["--metric", request.metric] if request.metric else [])]
    grid = two_sides.as_table(gathered, request, request.again("compare", *sides))
    print(_text(request.format or "md", FilledTable(grid, grid_csv(grid))), end="")
    if gathered.missing and not request.allow_missing:
        have = f"{len(gathered.missing)} of {counted(len(gathered.planned), 'run')} have no result"
        train = " and ".join(f"`{command}`" for command in two_sides.training(gathered, request))
        raise Incomplete(f"{have}: train them with {train}, or accept that with --allow-missing.")


def findings(request: Request) -> None:
    """Print what the runs say about the claims, or write it with a forest plot into a folder.

    Raises ConfigError; Incomplete once all is written.
    """
    if request.out is not None and request.out.suffix and not request.out.is_dir():
        raise ConfigError(f"--out {request.out}: findings are a page, a plot and its data, give a folder for them.")
    gathered = _gather(request, request.names)
    claims = sorted(map(Claim, gathered.values()), key=lambda claim: (claim.gathered.spec.source, claim.name))
    text = page.text(claims, lambda name: request.again("findings", *([name] if name else [])))
    if request.out is None:
        print(text, end="")
    else:
        from .figures import forest, style  # import matplotlib

        with replacing(request.out / "findings.md") as draft:
            draft.write_text(text, encoding="utf-8")
        drawing = forest.draw(claims)
        for path in (
            draft.with_name("findings.md"),
            *style.save(drawing.figure, drawing.data, request.out / "findings"),
        ):
            print(path)
    _refuse_missing(request, gathered)


def tuning(request: Request) -> None:
    """Print the trials of studies of `launch tune`, or write them with a picture of each into a folder."""
    if request.out is not None and request.out.suffix and not request.out.is_dir():
        raise ConfigError(f"--out {request.out}: a study is a table and a picture, give a folder for them.")
    asked = _studies(request.names)
    for study in asked:
        grid = grid_of_study(study, request.again("tuning", study.name))
        if request.out is None:
            made = FilledTable(grid, grid_csv(grid))
            print(_text(request.format or "md", made), end="\n" if len(asked) > 1 else "")
        else:
            _write_study(study, grid, request.out)


def _studies(names: Sequence[str]) -> list[Study]:
    """The studies with these names, or all; raises ConfigError."""
    root = runs_root()
    known = {folder.name: folder for folder in studies(root)}
    if not known:
        raise ConfigError(f"There is no study below {root}: `python -m {LAUNCH} tune` makes one.")
    for name in names:
        if name not in known:
            raise ConfigError(f"There is no study {name} below {root}{suggest(name, known)}.")
    return [study for name in names or known if (study := read_study(known[name]))]


def _write_study(study: Study, grid: Grid, folder: Path) -> None:
    from .figures import study_history, style  # import matplotlib

    page = folder / f"{study.name}.md"
    with replacing(page) as draft:
        draft.write_text(markdown(grid), encoding="utf-8")
    drawing = study_history.draw(study)
    for path in (page, *style.save(drawing.figure, drawing.data, folder / study.name)):
        print(path)


def refresh(request: Request) -> None:
    """Make again what pages have of tables and findings, see `refreshed`. Raises ConfigError."""
    for path in map(Path, request.names):
        text = refreshed(_read(path), _printed)
        with replacing(path) as draft:
            draft.write_text(text, encoding="utf-8")
        print(path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read ({getattr(error, 'strerror', None) or error}).") from error


def _printed(words: Sequence[str]) -> str:
    """What `python -m results` prints with these words."""
    command, *arguments = words
    known = {"table": table, "compare": compare, "findings": findings}
    if command not in known:
        raise ConfigError(f"A page cannot be made by `{shlex.join(words)}`: choose among {', '.join(known)}.")
    with redirect_stdout(StringIO()) as printed:
        known[command](parse(command, arguments))
    return printed.getvalue()


def site(request: Request) -> None:
    """Write one HTML page with all tables, figures and runs."""
    from .page.document import write_page  # imports matplotlib and torch

    out = request.out or SITE
    if out.is_dir():
        raise ConfigError(f"--out {out} is a folder: name the file of the page, as in --out {out / SITE.name}.")
    print(write_page(request, out))


def fetch(request: Request) -> None:
    """Copy an online W&B project to a folder."""
    from .sources import online  # imports W&B's client

    project = _project(request)
    folder = request.out or Path(project.replace("/", "-"))
    online.fetch(project, folder)
    say(f"copied to {folder}: read it with --source mirror:{folder}")


def sync(request: Request) -> None:
    """Upload the offline runs to W&B."""
    from .sources import sync as uploading  # imports W&B's client

    uploading.sync(_project(request), request.source)


def _project(request: Request) -> str:
    if len(request.names) != 1 or request.names[0].count("/") != 1:
        raise ConfigError(f"{request.command} needs one project, as in `{request.command} my-lab/sparse_rnn`.")
    return request.names[0]

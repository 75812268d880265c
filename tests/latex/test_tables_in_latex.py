"""Every table of the papers, and a nasty one, in LaTeX with what Debian's texlive-latex-base has."""

import re
from typing import Any

import pytest

from results.gathering import Gathered
from results.names import tables
from results.sources.logs import LoggedRun, Logs
from results.tables.by_name import make_table
from results.tables.grid import Field, Grid, Heading, Section
from results.tables.render import LATEX, latex
from sparse_rnn.tables.catalogue import Catalogue
from sparse_rnn.tables.declaration import DECLARED_TABLES, load
from sparse_rnn.tables.expansion import expand

LANDSCAPE = r"\documentclass{article}\usepackage[a4paper,landscape,margin=1.5cm]{geometry}"
PORTRAIT = r"\documentclass{article}\usepackage[a4paper,margin=2cm]{geometry}\usepackage{graphicx}"
WIDER_THAN_A_PAGE = ("table2", "table5")  # with a word in every field, without graphicx
COMMAND = "python -m results table"
WRONG = re.compile(r"^(?:! .*|.*Undefined control sequence.*|Missing character.*|.*Warning:.*)$", re.MULTILINE)
HARMLESS = re.compile(r"Label\(s\) may have changed|No file tables|`h' float specifier|There were")
OVERFULL = re.compile(r"Overfull \\hbox \(([\d.]+)pt too wide\)")
TOO_HIGH = re.compile(r"Float too large for page by ([\d.]+)pt")
NASTY = (
    r"&%$#_{}~^\ \input{x} % \\",
    "[2ex] * -- --- \"y\" <a|b> 'c' `d`",
    "Ünïcödé ß é à ø ł ş ± † ε",
    "".join(LATEX),
    "*",
    "[1]",
)


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    return Catalogue(tmp_path_factory.mktemp("catalogue"))


def logged(run_id: str, config: dict[str, Any], seed: int) -> LoggedRun:
    """A finished run with large numbers, and without averages: its cells take the most room."""
    classifies = "classifier" in config["model"]["name"]
    scores = {"accuracy": 0.5 + seed / 10} if classifies else {"perplexity": 1000.0 + 100 * seed}
    kept = {f"{split}/{metric}": value for split in ("valid", "test") for metric, value in scores.items()}
    kept |= {"valid/loss": 1.0, "active_parameters": 22_200_000}
    final = {"step": 2, "clock/finished": 1767225600.0, **{f"best/{name}": value for name, value in kept.items()}}
    provenance = {"environment": {"commit": "c" * 40, "modified": True, "host": "here"}, "device": "cpu"}
    return LoggedRun(run_id, config, provenance, "finished", final, "", lambda: [{"step": 1}, final])


def grid_of(name: str, catalogue: Catalogue, *, finished: bool) -> Grid:
    """A table, with made-up results of all its runs, or of none."""
    if name in DECLARED_TABLES:
        return make_table(name, None, COMMAND).grid
    planned = expand(load(name), catalogue.facts)
    runs = {each.run_id: logged(each.run_id, dict(each.facts.config), each.seed) for each in planned if finished}
    return make_table(name, Gathered(load(name), planned, Logs("runs", runs)), COMMAND).grid


def complaints(said: str) -> list[str]:
    """Everything in a log that is an error, a warning, or a character that no font has."""
    return [line for line in WRONG.findall(said) if not HARMLESS.search(line)]


@pytest.mark.parametrize("name", tables())
def test_a_table_goes_through_and_fits_a_page(pdflatex, catalogue, name):
    states = [False, True] if name not in DECLARED_TABLES else [False]
    made = [latex(grid_of(name, catalogue, finished=finished)) for finished in states]
    made = [text.replace(r"\label{tab:", rf"\label{{tab:{number}:") for number, text in enumerate(made)]
    with_graphicx = pdflatex.compile(*made, preamble=PORTRAIT)
    assert complaints(with_graphicx) == []
    assert OVERFULL.findall(with_graphicx) == []
    alone = pdflatex.compile(*made, preamble=LANDSCAPE)
    assert [line for line in complaints(alone) if not TOO_HIGH.search(line)] == []
    assert OVERFULL.findall(alone) == [] or name in WIDER_THAN_A_PAGE


@pytest.mark.parametrize("preamble", [LANDSCAPE, PORTRAIT], ids=["alone", "graphicx"])
def test_whatever_a_text_holds_is_printed(pdflatex, preamble):
    rows = tuple((Field(text), Field(text, bold=True), Field(text, muted=True)) for text in NASTY)
    header = ((Heading(""), Heading(NASTY[0], 2)), (Heading(NASTY[4]), Heading(NASTY[1]), Heading(NASTY[5])))
    sections = tuple(Section(text, rows) for text in NASTY)
    grid = Grid("a_b", NASTY[1], NASTY[2], header, sections, NASTY, NASTY)
    said = pdflatex.compile(latex(grid), preamble=preamble)
    assert [line for line in complaints(said) if not TOO_HIGH.search(line)] == []


def test_what_is_wrong_is_noticed(pdflatex):
    with pytest.raises(AssertionError, match="Undefined control sequence"):
        pdflatex.compile(r"\nonsense", preamble=LANDSCAPE)
    assert "Missing character" in complaints(pdflatex.compile(r"{\rm\char200}", preamble=LANDSCAPE))[0]
    assert OVERFULL.findall(pdflatex.compile(r"\noindent\rule{30cm}{1pt}", preamble=LANDSCAPE))

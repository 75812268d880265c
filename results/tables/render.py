"""A laid-out table as Markdown, LaTeX or HTML, or its numbers as CSV."""

import csv
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from ..templates import SETTINGS, html_templates
from .grid import Grid, Heading

LATEX = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "±": r"$\pm$",
    "†": r"$\dagger$",
    "×": r"$\times$",
    "·": r"$\cdot$",
    "≤": r"$\le$",
    "≥": r"$\ge$",
    "≈": r"$\approx$",
    "…": r"\dots{}",
    "[": "{[}",  # else LaTeX takes it for an option of the line break before
    "*": "{*}",  # likewise
    "\u00a0": "~",
    "<": r"$<$",
    ">": r"$>$",
    "|": r"$|$",
    "α": r"$\alpha$",
    "β": r"$\beta$",
    "ε": r"$\varepsilon$",
    "λ": r"$\lambda$",
    "μ": r"$\mu$",
    "σ": r"$\sigma$",
    "Δ": r"$\Delta$",
    "Σ": r"$\Sigma$",
    "→": r"$\rightarrow$",
    "−": r"$-$",
    "–": r"\textendash{}",
    "—": r"\textemdash{}",
    "’": "'",
}


def to_latex_text(text: str) -> str:
    """A text with everything escaped that has a meaning in LaTeX; accented letters stay, it knows them."""
    return re.sub("-(?=-)", "-{}", "".join(LATEX.get(character, character) for character in text))


def markdown(grid: Grid) -> str:
    """A table with aligned columns, so that the source is legible. Headings below the first line are bold rows."""
    width = _width(grid)
    first, *others = [_spread(line) for line in grid.header]
    body = [[_bold(text) for text in line] for line in others]
    for section in grid.sections:
        body.extend([[_bold(_cell(section.label)), *[""] * (width - 1)]] if section.label else [])
        body.extend(
            [_bold(_cell(field.text)) if field.bold else _cell(field.text) for field in row] for row in section.rows
        )
    widths = [max(len(line[k]) for line in (first, *body)) for k in range(width)]
    rule = "|".join(f"{'-' * (width + 1)}{':' if number else '-'}" for number, width in enumerate(widths))
    table = "\n".join([_line(first, widths), f"|{rule}|", *(_line(line, widths) for line in body)])
    notes = "\n".join(f"- {_cell(note)}" for note in grid.notes)
    footer = "  \n".join(_cell(line) for line in grid.footer)
    parts = [f"## {grid.title}", f"After {grid.source}." if grid.source else "", table, notes, footer]
    return "\n\n".join(part for part in parts if part) + "\n"


def _bold(text: str) -> str:
    return f"**{text}**" if text else ""


def _spread(headings: Sequence[Heading]) -> list[str]:
    return [text for heading in headings for text in (_cell(heading.text), *[""] * (heading.span - 1))]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _line(line: Sequence[str], widths: Sequence[int]) -> str:
    first, *others = zip(line, widths, strict=True)
    return f"| {first[0].ljust(first[1])} | " + " | ".join(text.rjust(width) for text, width in others) + " |"


def latex(grid: Grid) -> str:
    """A table environment. It needs no package; if `graphicx` is loaded, a wide table shrinks to the line width."""
    return _latex_templates.get_template("table.tex").render(grid=grid, columns=_width(grid))


def html(grid: Grid) -> str:
    """A table element with its caption, notes and footer."""
    return _html_templates.get_template("table.html").render(grid=grid, columns=_width(grid))


def _width(grid: Grid) -> int:
    return sum(heading.span for heading in grid.header[-1])


def grid_csv(grid: Grid) -> str:
    """The texts of a table that has no runs: one line per row, its section first."""
    header = _spread(grid.header[-1])
    rows = [[section.label, *(field.text for field in row)] for section in grid.sections for row in section.rows]
    return _csv([["section", *header], *rows])


def lines_csv(lines: Iterable[Mapping[str, Any]]) -> str:
    """Lines that have the same keys, under a line with these keys; empty if there is none."""
    rows = list(lines)
    return _csv([list(rows[0]), *(list(row.values()) for row in rows)]) if rows else ""


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


_FOLDER = Path(__file__).with_name("templates")
_html_templates = html_templates(_FOLDER)
_latex_templates = Environment(
    loader=FileSystemLoader(_FOLDER),
    **SETTINGS,
    block_start_string="<%",
    block_end_string="%>",
    variable_start_string="<<",
    variable_end_string=">>",
    comment_start_string="<#",
    comment_end_string="#>",
    finalize=lambda value: to_latex_text(value) if isinstance(value, str) else value,
)

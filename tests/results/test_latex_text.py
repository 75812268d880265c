"""Texts of a table as LaTeX has them: what pdflatex would take for something else, and would not complain of."""

import pytest

from results.tables.grid import Field, Grid, Heading, Section
from results.tables.render import latex, to_latex_text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("--source a_b", r"-{}-source a\_b"),
        ("---", "-{}-{}-"),
        ("1 — 2", r"1 \textemdash{} 2"),
        ("[2ex] *", "{[}2ex] {*}"),
        (r"\input{x}", r"\textbackslash{}input\{x\}"),
        ("|w| < 50% ± ε", r"$|$w$|$ $<$ 50\% $\pm$ $\varepsilon$"),
        ("Selfish-RNN, Übung", "Selfish-RNN, Übung"),
    ],
)
def test_a_text_is_printed_as_it_stands(text: str, expected: str) -> None:
    assert to_latex_text(text) == expected


def test_a_table_says_what_it_needs_and_its_lines_end_with_one_full_stop() -> None:
    header = ((Heading(""), Heading("a & b")),)
    grid = Grid(
        "st_table1", "T", "S", header, (Section("", ((Field("[1]"), Field("2", bold=True)),)),), ("Note.",), ("F",)
    )
    text = latex(grid)
    assert text.startswith("% Needs no package.")
    assert r"\label{tab:st-table1}" in text
    assert r"{[}1] & \textbf{2} \\" in text
    assert "Note.\\par\nF.\\par" in text

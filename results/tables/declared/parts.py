"""What the declared tables are put together from: headings, sections, and the order of their rows."""

from collections.abc import Collection, Sequence

from ..grid import Field, Grid, Heading, Section

NOT_IN_PAPER = "Not in the paper's table"
UNKNOWN = "-"


def declared_grid(
    name: str,
    title: str,
    source: str,
    *,
    header: Sequence[tuple[Heading, ...]],
    sections: Sequence[Section],
    notes: Sequence[str],
    made_from: str,
) -> Grid:
    """A table whose footer says what it is made from."""
    footer = (f"Made from {made_from}, without a run.",)
    return Grid(name, title, source, tuple(header), tuple(sections), tuple(notes), footer)


def headings(*texts: str) -> tuple[Heading, ...]:
    """A line of headings of one column each."""
    return tuple(Heading(text) for text in texts)


def sections(listed: Sequence[Sequence[str]], others: Sequence[Sequence[str]] = ()) -> list[Section]:
    """The texts of the rows that the paper's table has, then under a label of their own those of the others."""
    return [_section("", listed), *([_section(NOT_IN_PAPER, others)] if others else [])]


def _section(label: str, rows: Sequence[Sequence[str]]) -> Section:
    return Section(label, tuple(tuple(Field(text, muted=text == UNKNOWN) for text in row) for row in rows))


def in_order_of(known: Sequence[str], names: Collection[str]) -> list[str]:
    """The names, those known first and in that order."""
    return [*(name for name in known if name in names), *(name for name in names if name not in known)]

"""A table as it stands on a page, before it is Markdown, LaTeX or HTML."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """The text of one field. muted: it says why there is no number."""

    text: str
    bold: bool = False
    muted: bool = False


@dataclass(frozen=True)
class Heading:
    """The heading of `span` columns."""

    text: str
    span: int = 1


@dataclass(frozen=True)
class Section:
    """Rows under a line across the table, which is left out if the label is empty. The first field names the row."""

    label: str
    rows: tuple[tuple[Field, ...], ...]


@dataclass(frozen=True)
class Grid:
    """A table: lines of headings, sections of rows, notes that explain its marks, and what it was made from."""

    name: str
    title: str
    source: str
    header: tuple[tuple[Heading, ...], ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    footer: tuple[str, ...] = ()

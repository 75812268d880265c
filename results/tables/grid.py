"""A table as texts in their places, before it becomes Markdown, LaTeX or HTML."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """The text of one field. muted: whether it stands for a number that is missing."""

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
    """Rows under a label across the table, which is left out if it is empty. The first field of a row is its name."""

    label: str
    rows: tuple[tuple[Field, ...], ...]


@dataclass(frozen=True)
class Grid:
    """A table. header: lines of headings. notes: explain its marks. footer: says what it was made from."""

    name: str
    title: str
    source: str
    header: tuple[tuple[Heading, ...], ...]
    sections: tuple[Section, ...]
    notes: tuple[str, ...] = ()
    footer: tuple[str, ...] = ()

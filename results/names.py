"""The names of all tables and figures: of those that need runs, and of those that the methods declare."""

from sparse_rnn import table

DECLARED_TABLES = ("table1", "table4", "table10", "st_table1")
DRAWN_FIGURES = ("figure1", "figure2")


def tables() -> list[str]:
    """In the order of the papers."""
    return _ordered([*table.names("table"), *DECLARED_TABLES])


def figures() -> list[str]:
    """In the order of the papers."""
    return _ordered([*table.names("figure"), *DRAWN_FIGURES])


def _ordered(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: (len(name), name))

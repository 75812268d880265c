"""Names: of all tables and figures, those that need runs and those that the methods declare; of the runs' own logs."""

from results.tables.declared import DECLARED
from sparse_rnn.tables import declaration as table

DECLARED_TABLES = tuple(DECLARED)
RUNS, RECORDS = "runs", "records"
DRAWN_FIGURES = ("figure1", "figure2")


def tables() -> list[str]:
    """In the order of the papers."""
    return _ordered([*table.names("table"), *DECLARED_TABLES])


def figures() -> list[str]:
    """In the order of the papers."""
    return _ordered([*table.names("figure"), *DRAWN_FIGURES])


def _ordered(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: (len(name), name))

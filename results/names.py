"""What a command line can name: tables and figures, formats, sources of logs."""

from sparse_rnn.tables import declaration

DECLARED_TABLES = ("table1", "table4", "table10", "st_table1")  # made from declarations, without a run
DECLARED_FIGURES = ("figure1", "figure2")  # likewise
FORMATS = {"md": "md", "csv": "csv", "latex": "tex", "html": "html"}  # and the ending of their files
RUNS, RECORDS = "runs", "records"

RESULTS = __name__.rpartition(".")[0]  # `results` in a checkout, `sparse_rnn.results` where the package is installed
LAUNCH = f"{RESULTS.removesuffix('results')}launch"


def tables() -> list[str]:
    """The names of all tables, in the order of the papers."""
    return _ordered([*declaration.names("table"), *DECLARED_TABLES])


def figures() -> list[str]:
    """The names of all figures, in the order of the papers."""
    return _ordered([*declaration.names("figure"), *DECLARED_FIGURES])


def _ordered(names: list[str]) -> list[str]:
    return sorted(names, key=lambda name: (len(name), name))

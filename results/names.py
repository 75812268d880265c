"""What a command line can name: tables and figures, formats, what is bold, sources of logs."""

from pathlib import Path

from sparse_rnn.tables import declaration
from sparse_rnn.tables.declaration import DECLARED_FIGURES, DECLARED_TABLES

FORMATS = {"md": "md", "csv": "csv", "latex": "tex", "html": "html"}  # and the ending of their files
RUNS, RECORDS, MLFLOW = "runs", "records", "mlflow"
# What is bold in a block: the best mean; or with it all that cannot be told from it, and nothing if that is all.
MEAN, SIGNIFICANT = BOLD = ("mean", "significant")

RESULTS = __name__.rpartition(".")[0]  # `results` in a checkout, `sparse_rnn.results` where the package is installed
LAUNCH = f"{RESULTS.removesuffix('results')}launch"


def tables() -> list[str]:
    """The names of all tables, in the order of the papers."""
    return _ordered([*declaration.names("table"), *DECLARED_TABLES])


def figures() -> list[str]:
    """The names of all figures, in the order of the papers."""
    return _ordered([*declaration.names("figure"), *DECLARED_FIGURES])


def findings() -> list[str]:
    """The names of all findings."""
    return declaration.names("finding")


def stem_of(name: str) -> str:
    """The name of a table or figure that is given by its name or by the path of its file."""
    return Path(name).stem if declaration.is_path(name) else name


def _ordered(names: list[str]) -> list[str]:
    return sorted(names, key=declaration.place)

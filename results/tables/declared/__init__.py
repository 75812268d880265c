"""Tables that need no run: made from what methods, recipes and data sets declare in configuration and code.

Whatever differs from the paper's table, as copied into results/paper, is said in a note.
"""

from collections.abc import Callable, Mapping

from ..grid import Grid
from .data_sets import st_table1
from .flop_formulas import table10
from .hyperparameters import table4
from .methods import table1

DECLARED: Mapping[str, Callable[[], Grid]] = {
    "table1": table1,
    "table4": table4,
    "table10": table10,
    "st_table1": st_table1,
}

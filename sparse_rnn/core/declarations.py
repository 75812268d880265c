"""What a model declares of its weights."""

from collections.abc import Mapping
from dataclasses import dataclass

LSTM_GATES = ("input", "forget", "cell", "output")
GRU_GATES = ("reset", "update", "new")


@dataclass(frozen=True, slots=True)
class Gates:
    """Row ranges of one weight, by gate, and the cell that the weight belongs to.

    `rows` must cover every row once. Weights of one `cell` are sorted together under `scope: cell`.
    """

    rows: Mapping[str, slice]
    cell: str

    @classmethod
    def equal(cls, names: tuple[str, ...], hidden: int, cell: str) -> "Gates":
        """Gates of `hidden` rows each, in the order of `names`."""
        return cls({gate: slice(i * hidden, (i + 1) * hidden) for i, gate in enumerate(names)}, cell)


GateMap = Mapping[str, Gates | Mapping[str, slice]]

"""What a model declares about its weights: which rows belong to a gate, and what belongs to a hidden unit."""

from collections.abc import Mapping
from dataclasses import dataclass

LSTM_GATES = ("input", "forget", "cell", "output")
GRU_GATES = ("reset", "update", "new")


@dataclass(frozen=True, slots=True)
class Gates:
    """The rows of one weight, by gate, and the cell that the weight belongs to.

    `rows` must cover every row once. Weights of the same `cell` are sorted together under `scope: cell`.
    """

    rows: Mapping[str, slice]
    cell: str

    @classmethod
    def equal(cls, names: tuple[str, ...], hidden: int, cell: str) -> "Gates":
        """Gates of `hidden` rows each, in the order of `names`."""
        return cls({gate: slice(i * hidden, (i + 1) * hidden) for i, gate in enumerate(names)}, cell)


GateMap = Mapping[str, Gates | Mapping[str, slice]]


@dataclass(frozen=True, slots=True)
class Structures:
    """The intrinsic sparse structures of one layer (ISS, Wen et al. 2018): one for each of its `width` hidden units.

    The structure of unit k is all that disappears with it: rows k, k + width, k + 2 width, ... (one per gate) of the
    weights `rows`, and column k of the weights `columns`. An entry that lies in both counts twice, as in the authors'
    code. Biases belong to no structure. Weights are named as in the model's `named_parameters()`.
    """

    name: str
    width: int
    rows: tuple[str, ...]
    columns: tuple[str, ...]

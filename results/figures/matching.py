"""Which unit of one network does what a unit of another does, told by their states on the same tokens."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
States = NDArray[np.float32]
Units = NDArray[np.intp]
Matching = Literal["semi", "assignment"]
TIE = np.float32(1e-5)  # more than float32 rounds a correlation over thousands of tokens


def standardised(states: States) -> States:
    """Columns of mean 0 and length 1, so that products are correlations; zeros for a unit that never moves."""
    centred = states - states.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred[:, states.max(axis=0) == states.min(axis=0)] = 0
    length = np.sqrt(np.square(centred).sum(axis=0, dtype=np.float64)).astype(np.float32)
    correlating: States = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    return correlating


def partners(first: States, second: States, matching: Matching = "semi") -> Units:
    """For every unit of the first network its partner in the second; states standardised, float32 [tokens, units].

    semi: the unit of the largest signed correlation; several may have the same partner (Li et al. 2016, semi-matching).
    assignment: one to one, with the largest sum of correlations. A unit that never moves correlates with none, 0. Ties
    go to the unit of the same number, so that a network's partner in itself is itself.
    """
    correlation = first.T @ second
    correlation[np.diag_indices_from(correlation)] += TIE
    if matching == "semi":
        best: Units = correlation.argmax(axis=1)
        return best
    from scipy.optimize import linear_sum_assignment  # takes longer to load than a semi-matching does

    own: Units = linear_sum_assignment(correlation, maximize=True)[1]
    return own

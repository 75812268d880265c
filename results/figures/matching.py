"""Matching of units: which unit of one network does what a unit of another does, by their states on the same tokens."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

Mask = NDArray[np.bool_]
States = NDArray[np.float32]
Units = NDArray[np.intp]
Matching = Literal["semi", "assignment"]
TIE = np.float32(1e-5)  # above the rounding error of a float32 correlation over thousands of tokens


def standardised(states: States) -> States:
    """States [tokens, units] with columns of mean 0 and length 1, so that products are correlations.

    A unit whose state is constant becomes zeros.
    """
    centred = states - states.mean(axis=0, dtype=np.float64).astype(np.float32)
    centred[:, states.max(axis=0) == states.min(axis=0)] = 0
    length = np.sqrt(np.square(centred).sum(axis=0, dtype=np.float64)).astype(np.float32)
    correlating: States = np.divide(centred, length, out=np.zeros_like(centred), where=length > 0)
    return correlating


def partners(first: States, second: States, matching: Matching = "semi") -> Units:
    """For each unit of the first network, its partner in the second; states standardised, float32 [tokens, units].

    semi: the unit with the largest signed correlation; several may share a partner (semi-matching, Li et al. 2016).
    assignment: one to one, with the largest sum of correlations. A constant unit has correlation 0 with all. Ties go to
    the unit with the same index, so that every unit of a network is its own partner in that network.
    """
    correlation = first.T @ second
    correlation[np.diag_indices_from(correlation)] += TIE
    if matching == "semi":
        best: Units = correlation.argmax(axis=1)
        return best
    own: Units = linear_sum_assignment(correlation, maximize=True)[1]
    return own

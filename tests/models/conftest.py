"""Fixtures for the tests of several models."""

import pytest
from torch import Tensor

from sparse_rnn.models.layers import dropout as dropout_module
from sparse_rnn.models.layers import highway as highway_module


@pytest.fixture
def masks(monkeypatch) -> list[Tensor]:
    """Every dropout mask drawn, in order."""
    drawn: list[Tensor] = []
    draw = dropout_module.inverted_mask

    def recorded(like: Tensor, p: float) -> Tensor:
        drawn.append(draw(like, p))
        return drawn[-1]

    monkeypatch.setattr(dropout_module, "inverted_mask", recorded)
    monkeypatch.setattr(highway_module, "inverted_mask", recorded)
    return drawn

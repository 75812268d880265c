"""What several tests of results share."""

from pathlib import Path

import pytest
from logged_runs import epoch, last, write_segment

from sparse_rnn.tables.catalogue import Catalogue

LONG = "x" * 40_000  # longer than a block of the format


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Catalogue:
    """What the runs of tables come to, composed once per module."""
    return Catalogue(tmp_path_factory.mktemp("catalogue"))


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log of a finished run whose records span blocks."""
    rows = [epoch(number, 1 / number, text=LONG if number == 3 else "") for number in range(1, 30)]
    return write_segment(tmp_path_factory.mktemp("whole"), [*rows, last(29)])

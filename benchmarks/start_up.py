"""How long the commands take before they do anything."""

import subprocess
import sys

from benchmarks.row import Row, ratio_of_times


def rows() -> list[Row]:
    """Time of `describe`, as a ratio to that of importing torch."""
    describe = [sys.executable, "-m", "sparse_rnn.describe", "model=rhn"]
    torch = [sys.executable, "-c", "import torch"]
    ratio = ratio_of_times(lambda: _run(describe), lambda: _run(torch))
    return [Row("start-up, describe model=rhn / import torch", ratio, 2.5, 1.0)]


def _run(command: list[str]) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

"""Numbers and the words that follow them."""

import re
from pathlib import Path

import pytest

from sparse_rnn.core.wording import counted, plural

ROOT = Path(__file__).parents[2]
BY_HAND = re.compile(r"""['"]s['"] \* \(|\(s\)""")


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 threads"), (1, "1 thread"), (2, "2 threads"), (2000, "2,000 threads")]
)
def test_one_thread_and_two_threads(number: int, text: str) -> None:
    assert counted(number, "thread") == text
    assert text.endswith(plural("thread", number))


def test_nobody_else_makes_plurals() -> None:
    """One helper does: what was written by hand beside it was wrong for one, or for none."""
    files = [path for package in ("sparse_rnn", "launch", "results") for path in (ROOT / package).rglob("*.py")]
    own = ROOT / "sparse_rnn/core/wording.py"
    allowed = {"CUDA-capable device(s) is/are busy"}  # torch's words
    found = [
        f"{path}: {line.strip()}"
        for path in files
        if path != own
        for line in path.read_text(encoding="utf-8").splitlines()
        if BY_HAND.search(line) and not any(words in line for words in allowed)
    ]
    assert found == []

"""The progress bar on terminals of every width."""

import io
import re

import pytest
from rich.console import Console

from sparse_rnn.training.loggers import terminal as terminal_logger
from sparse_rnn.training.loggers.terminal import Terminal, fitting

METRICS = {"loss": 4.82, "perplexity": 123.97}
LINE = r"epoch 7/100 \S{10}   8% [\d:-]{7}"
LOSS, PERPLEXITY, SPEED, SPARSITY = "loss 4.820", "perplexity 123.970", "12,345 tokens/s", "sparsity 0.670"


def drawn(width: int, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The lines of a bar as it stands after a step."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=width, soft_wrap=True)
    monkeypatch.setattr(terminal_logger, "Console", lambda **_: console)
    terminal = Terminal(100, True, "paper")
    terminal.step(6, 0.08, METRICS, 12_345.0, 0.67)
    terminal.finish(0)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", stream.getvalue()).replace("\r", "\n")
    lines = [line.rstrip() for line in shown.splitlines() if line.strip()]
    last = max(place for place, line in enumerate(lines) if line.startswith("epoch"))
    return lines[last:]


@pytest.mark.parametrize(
    ("width", "facts"),
    [
        (80, [LOSS, PERPLEXITY, SPEED, SPARSITY]),
        (60, [LOSS, PERPLEXITY, SPEED]),
        (40, [LOSS, PERPLEXITY]),
    ],
)
def test_a_narrow_terminal_has_the_facts_below(width: int, facts: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    line, below = drawn(width, monkeypatch)
    assert re.fullmatch(LINE, line)
    assert below == "  ".join(facts)


def test_a_wide_terminal_has_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    [line] = drawn(100, monkeypatch)
    assert re.fullmatch(rf"{LINE} {LOSS}  {PERPLEXITY}  {SPEED}  {SPARSITY}", line)


@pytest.mark.parametrize(("width", "text"), [(9, "aaa  bbbb"), (8, "aaa"), (3, "aaa"), (2, "")])
def test_texts_that_fit(width: int, text: str) -> None:
    assert fitting(["aaa", "bbbb"], width) == text

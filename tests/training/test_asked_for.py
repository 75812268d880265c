"""The overrides of a run in one spelling: in its header, its record, and the errors of a multirun."""

from io import StringIO

import pytest
from rich.console import Console
from run_helpers import Train, composed, record_of

from sparse_rnn.config.identity import as_dict
from sparse_rnn.training.asked_for import asked_for, in_one_line, without_machine
from sparse_rnn.training.loggers.terminal import Terminal


@pytest.mark.parametrize(
    ("given", "asked"),
    [
        ("", ""),
        ("seed=2 sparsifier.sparsity=.90 model=rhn", "model=rhn sparsifier.sparsity=0.9 seed=2"),
        ("budget=smoke dataset=pydoc sparsifier=set", "dataset=pydoc sparsifier=set budget=smoke"),
        ("optimizer.lr=1 ++optimizer.lr=20", "optimizer.lr=20"),
        ("snapshots=true", "snapshots.enabled=true"),
        ("training.clip=null threads=1", "training.clip=null threads=1"),
        ("init_seed=3 seed=2", "seed=2 init_seed=3"),
    ],
)
def test_one_spelling(given: str, asked: str) -> None:
    overrides = given.split()
    plain = [each.lstrip("+").replace("snapshots=", "snapshots.enabled=") for each in overrides]
    assert " ".join(asked_for(overrides, as_dict(composed(plain)))) == asked


def test_what_is_hydras_or_the_machines_is_left_out() -> None:
    overrides = ["hydra/launcher=submitit_local", "hydra.verbose=true", "threads=1", "device=cpu", "logger=files"]
    overrides += ["logger.every=3", "checkpoint.keep=last", "sparsifier.backend=masked", "training.graph=off", "seed=2"]
    asked = asked_for(overrides, {})
    assert sorted(asked) == sorted(overrides[2:])
    assert without_machine(asked) == ["seed=2"]


@pytest.mark.parametrize(
    ("width", "line"),
    [
        (None, "model=rhn sparsifier.sparsity=0.9 seed=2"),
        (40, "model=rhn sparsifier.sparsity=0.9 seed=2"),
        (39, "model=rhn ... (2 more)"),
        (10, "model=r..."),
    ],
)
def test_a_line_is_cut_between_overrides(width: int | None, line: str) -> None:
    assert in_one_line(["model=rhn", "sparsifier.sparsity=0.9", "seed=2"], width) == line
    assert width is None or len(line) <= width


def test_the_header_says_what_was_asked_for_and_the_record_keeps_it(
    tiny: list[str], train_here: Train, capsys: pytest.CaptureFixture[str]
) -> None:
    record = record_of(train_here([*tiny, "sparsifier.sparsity=.9", "seed=2"]))
    [said] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Asked for: ")]
    assert said.endswith("sparsifier.sparsity=0.9 seed=2")
    assert "model.hidden=16" in said
    assert not {"threads=1", "device=cpu", "logger=files", "logger.every=3"} & set(said.split())
    assert {"threads=1", "sparsifier.sparsity=0.9", "seed=2", "logger=files"} <= set(record["overrides"])


def test_only_a_terminal_cuts_the_line() -> None:
    terminal = Terminal(1, True, "smoke")
    terminal.console = Console(width=50, force_terminal=True)
    assert terminal.columns_left("Asked for: ") == 39
    terminal.console = Console(file=StringIO(), width=50)
    assert terminal.columns_left("Asked for: ") is None

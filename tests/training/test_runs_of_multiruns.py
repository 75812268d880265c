"""How a multirun tells its runs apart: in errors, and in the list at its end."""

from pathlib import Path

import pytest
from run_helpers import Commands, folder_of

pytestmark = pytest.mark.processes


def said_by(commands: Commands, *arguments: str) -> tuple[int | None, list[str]]:
    """Exit code and lines of a multirun."""
    code, said = commands.run(["-m", "logger=files", *arguments])
    return code, said.splitlines()


def test_the_last_lines_list_the_runs(tiny: list[str], root: Path, commands: Commands) -> None:
    code, said = said_by(commands, *tiny, "sparsifier.sparsity=.5,.9", "seed=1,2")
    assert code == 0
    head, *lines = said[-5:]
    assert head == "4 runs, 4 finished:"
    expected = [("sparsity=0.5", 1), ("sparsity=0.5", 2), ("sparsity=0.9", 1), ("sparsity=0.9", 2)]
    for line, (words, seed) in zip(lines, expected, strict=True):
        assert line.startswith(f"  {words}, seed {seed}  valid ")
        folder = folder_of([*tiny, f"sparsifier.{words}", f"seed={seed}"], root)
        assert line.endswith(f"  {folder.path}")
    assert " test " in lines[0]


def test_an_error_names_its_run_and_the_list_has_it(tiny: list[str], root: Path, commands: Commands) -> None:
    code, said = said_by(commands, *tiny, "optimizer.lr=10,1e30", "training.clip=null")
    assert code == 1
    folder = folder_of([*tiny, "optimizer.lr=1e30", "training.clip=null"], root)
    [error] = [line for line in said if line.startswith("error: ")]
    assert f"optimizer.lr=1e+30 training.clip=null ({folder.path}): The training loss became " in error
    at = said.index("2 runs, 1 finished:")
    assert said[at + 1].startswith("  lr=10     valid ")
    assert said[at + 2].split() == ["lr=1e+30", "failed", str(folder.path)]


def test_a_refused_run_is_named(tiny: list[str], commands: Commands) -> None:
    code, said = said_by(commands, *tiny, "sparsifier=set,dense", "growth=random", "training.epochs=1")
    assert code == 2
    [error] = [line for line in said if line.startswith("error: ")]
    assert "sparsifier=dense growth=random" in error
    assert error.endswith(": sparsifier=dense never grows weights: leave growth=random out.")
    assert "  sparsifier=dense  refused" in said


def test_a_run_that_cannot_be_composed_is_named_and_nothing_is_trained(
    tiny: list[str], root: Path, commands: Commands
) -> None:
    code, said = said_by(commands, *tiny, "sparsifier.sparsity=0.5,much", "seed=1,2")
    assert code == 2
    assert len(said) == 1
    assert "sparsifier.sparsity=much seed=1: sparsifier.sparsity: " in said[0]
    assert not list(root.glob("*/"))


def test_a_single_run_has_neither(tiny: list[str], root: Path, commands: Commands) -> None:
    code, said = commands.run([*tiny, "logger=files", "optimizer.lr=1e30", "training.clip=null"])
    assert code == 1
    assert said.splitlines()[-1].startswith("error: The training loss became ")
    assert "finished:" not in said

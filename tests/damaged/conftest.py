"""The runs of a small table, trained once, and a copy of their folder for each test."""

import shutil
from pathlib import Path

import pytest

from sparse_rnn.config.compose import compose_run
from sparse_rnn.core import command_line
from sparse_rnn.tables.catalogue import Catalogue
from sparse_rnn.tables.declaration import load
from sparse_rnn.tables.expansion import expand
from sparse_rnn.training.session import train

SMALL = ("dataset=pydoc", "budget=smoke")
HERE = ("logger=files", "threads=1", "device=cpu", "checkpoint.keep=last")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the three runs of table6, seed 1, and the catalogue of all that tables need of them."""
    root = tmp_path_factory.mktemp("trained") / "runs"
    catalogue = Catalogue(root / ".launch")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSE_RNN_RUNS", str(root))
        for run in expand(load("table6"), catalogue.facts, seeds=[1], overrides=list(SMALL)):
            overrides = [*run.overrides, *HERE]
            train(compose_run(overrides), overrides)
    catalogue.save()
    return root


@pytest.fixture
def root(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of these runs, which a test may damage."""
    shutil.copytree(trained, tmp_path / "runs")
    monkeypatch.setattr(command_line, "_warned", set())
    return tmp_path / "runs"

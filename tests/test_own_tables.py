"""The tables that no paper has, from their runs to a file, at budget=smoke and on what needs no network."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from results import commands
from results.requests import parse
from sparse_rnn.config.compose import compose_run
from sparse_rnn.runs.folder import runs_root
from sparse_rnn.tables.catalogue import Catalogue
from sparse_rnn.tables.declaration import load
from sparse_rnn.tables.expansion import expand
from sparse_rnn.training.session import train

pytestmark = [pytest.mark.documented, pytest.mark.timeout(900)]
DATA = {
    "modern_methods": "dataset=pydoc",
    "modern_networks": "dataset=pydoc",
    "pruning_at_initialisation": "dataset=pydoc",
    "sequences": "dataset=sequential_digits",
}


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("SPARSE_RNN_RUNS", str(tmp_path / "runs"))


def made(name: str, overrides: list[str], out: Path) -> list[dict[str, str]]:
    """The lines of the table's CSV."""
    commands.table(parse("table", [name, *overrides, "seeds=1", "--source", "records", "--out", str(out)]))
    assert (out / f"{name}.md").read_text(encoding="utf-8").startswith("## ")
    with (out / f"{name}.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", DATA)
def test_every_row_trains_and_is_in_the_table(name, tmp_path) -> None:
    overrides = ["budget=smoke", DATA[name]]
    planned = expand(load(name), Catalogue(runs_root()).facts, seeds=[1], overrides=overrides)
    for run in {run.run_id: run for run in planned}.values():
        own = [*run.overrides, "logger=files", "threads=1"]
        train(compose_run(own), own)
    cells = [line for line in made(name, overrides, tmp_path) if line["seeds"] != "0"]
    assert cells
    assert {line["n"] for line in cells} == {"1"}


def test_a_table_of_our_own_is_launched_as_any_other(tmp_path) -> None:
    launch = [sys.executable, "-m", "launch"]
    words = ["sequences", "budget=smoke", DATA["sequences"], "seeds=1", "logger=files"]
    subprocess.run([*launch, "submit", *words, "cluster.runs=2"], check=True, capture_output=True, timeout=600)
    subprocess.run([*launch, "status", *words, "--watch"], check=True, capture_output=True, timeout=600)
    assert {line["failed"] for line in made("sequences", ["budget=smoke", DATA["sequences"]], tmp_path)} == {"0"}

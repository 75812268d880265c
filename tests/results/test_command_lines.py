"""From `launch submit` to a written table, as a user would: real runs of a table, on the embedded corpus."""

import csv
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from results.__main__ import main
from results.replacing import replacing
from results.requests import parse
from results.tables.declared import DECLARED
from results.tables.declared.parts import NOT_IN_PAPER
from results.tables.render import grid_csv, latex, markdown
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.tables.declaration import DECLARED_TABLES

ROOT = Path(__file__).parent.parent.parent
SMALL = ("dataset=pydoc", "budget=smoke", "seeds=1")
pytestmark = pytest.mark.documented


def python(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"SPARSE_RNN_RUNS": str(root), "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"}
    line = [sys.executable, "-m", *arguments]
    return subprocess.run(line, env=environment, capture_output=True, text=True, timeout=280, stdin=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the runs of table6, seed 1, sent and trained."""
    root = tmp_path_factory.mktemp("sent") / "runs"
    sent = python(root, "launch", "submit", "table6", *SMALL, "cluster.runs=1", "cluster.threads=1")
    assert "3 sent" in sent.stdout, sent.stderr
    watched = python(root, "launch", "status", "--watch")
    assert watched.returncode == 0, watched.stdout
    return root


@pytest.fixture(scope="module")
def shown(runs: Path) -> str:
    """The table from offline W&B logs."""
    done = python(runs, "results", "table", "table6", *SMALL)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def body(text: str) -> list[str]:
    """A table without the lines that say where it is from."""
    return [line for line in text.splitlines() if not line.startswith(("Source:", "Made by:"))]


def test_a_table_has_a_number_in_every_field(shown: str) -> None:
    assert "3 of 3 finished" in shown
    assert "missing" not in shown
    assert "paper (full size)" in shown
    assert "Source: runs" in shown
    assert "python -m results table table6 dataset=pydoc budget=smoke seeds=1" in shown


def test_the_records_give_the_same_table(runs: Path, shown: str) -> None:
    done = python(runs, "results", "table", "table6", *SMALL, "--source", "records")
    assert done.returncode == 0, done.stderr
    assert body(done.stdout) == body(shown)


def test_wandb_logs_alone_are_enough(runs: Path, shown: str, tmp_path: Path) -> None:
    for folder in runs.glob("*/wandb"):
        shutil.copytree(folder, tmp_path / "runs" / folder.parent.name / "wandb", symlinks=True)
    done = python(tmp_path / "runs", "results", "table", "table6", *SMALL)
    assert done.returncode == 0, done.stderr
    assert body(done.stdout) == body(shown)


def test_files_of_every_format(runs: Path, shown: str, tmp_path: Path) -> None:
    done = python(runs, "results", "table", "table6", *SMALL, "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["table6.csv", "table6.md", "table6.tex"]
    assert (tmp_path / "table6.md").read_text() == shown
    with (tmp_path / "table6.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert {line["n"] for line in lines} == {"1"}
    for line in lines:
        assert all((runs / run_id / "record.json").exists() for run_id in line["run_ids"].split())
    single = python(runs, "results", "table", "table6", *SMALL, "--out", str(tmp_path / "page.html"))
    assert single.returncode == 0, single.stderr
    assert "<table>" in (tmp_path / "page.html").read_text()


def test_incomplete_tables_end_with_3_unless_allowed(runs: Path) -> None:
    arguments = ["table6", "dataset=pydoc", "budget=smoke", "seeds=1,2"]
    done = python(runs, "results", "table", *arguments)
    assert done.returncode == 3
    assert "1/2 seeds)" in done.stdout
    assert (
        "3 of 6 runs of table6 have no result: train what is missing with `python -m launch submit table6 dataset=pydoc"
        in done.stderr
    )
    assert done.stderr.count("\n") == 1
    allowed = python(runs, "results", "table", *arguments, "--allow-missing")
    assert (allowed.returncode, allowed.stdout) == (0, done.stdout)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["table", "tabel2"], "tabel2 is no table (did you mean table2"),
        (["table", "figure5"], "figure5 is no table: it is a figure."),
        (["table"], "Which table?"),
        (["tabel", "table2"], "tabel is not a command (did you mean table?)"),
        (["table", "table2", "--format", "markdown"], "--format markdown does not exist"),
        (["table", "table2", "--fromat", "md"], "table does not know --fromat (did you mean --format or --out?)"),
        (["table", "table2", "--allow-mising"], "table does not know --allow-mising (did you mean --allow-missing?)"),
        (["table", "table2", "--source", "nowhere"], "nowhere"),
        (["table", "table2", "--source", "mirror:"], "--source mirror: is incomplete"),
        (["table", "table1", "--out", "table1.pdf"], "a table ends in .md, .csv, .tex, .html; or give a folder."),
        (["table", "table1", "--out", "a.tex", "--format", "csv"], "--out a.tex contradicts --format csv"),
        (["figure", "figure1", "--out", "figure1.png"], "give a folder"),
        (["site", "table2"], "site shows every table and figure: leave table2 out."),
        (["table", "table2", "--out"], "--out needs a value."),
        (["figure", "figure5", "sparsifier.update_interval=7"], "varies sparsifier.update_interval"),
        (["fetch", "project"], "fetch needs one project, as in `fetch my-lab/sparse_rnn`."),
    ],
)
def test_mistakes_are_one_sentence(
    arguments: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["results", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert sentence in said
    assert said.count("\n") == 1
    assert said.startswith("error: ")


def test_runs_that_only_their_records_tell_of_are_pointed_to(runs: Path, tmp_path: Path) -> None:
    for record in runs.glob("*/record.json"):
        (tmp_path / "runs" / record.parent.name).mkdir(parents=True)
        shutil.copy(record, tmp_path / "runs" / record.parent.name)
    done = python(tmp_path / "runs", "results", "table", "table6", *SMALL)
    assert done.returncode == 3
    assert "have no result: read the 3 that have finished with --source records, train" in done.stderr


def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    def fill_the_disk() -> None:
        with replacing(tmp_path / "table1.md") as draft:
            draft.write_text("half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    (tmp_path / "table1.md").write_text("old")
    with pytest.raises(ConfigError, match=r"table1.md cannot be written \(No space left on device\)"):
        fill_the_disk()
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["table1.md"]
    assert (tmp_path / "table1.md").read_text() == "old"


def test_keys_of_the_cluster_may_stay_on_the_line(tmp_path: Path) -> None:
    assert parse("table", ["table1", "cluster=slurm", "cluster.runs=2", "budget=smoke"]).overrides == ["budget=smoke"]


@pytest.mark.parametrize("name", DECLARED_TABLES)
def test_the_tables_of_declarations_in_the_project_are_those_of_today(name: str) -> None:
    """But for rows below those of the paper, of methods and recipes that somebody has added."""
    grid, folder = DECLARED[name](), ROOT / "results" / "output" / "tables"
    kept = list(csv.reader((folder / f"{name}.csv").read_text(encoding="utf-8").splitlines()))
    made = list(csv.reader(grid_csv(grid).splitlines()))
    added = [row for row in made if row not in kept]
    assert [row for row in made if row in kept] == kept, f"make {name.replace('_', '-')}"
    assert {row[0] for row in added} <= {NOT_IN_PAPER}
    for ending, form in (("md", markdown), ("tex", latex)):
        text = (folder / f"{name}.{ending}").read_text(encoding="utf-8")
        assert added or text == form(grid), f"make {name.replace('_', '-')}"


def test_tables_that_need_no_runs_need_no_logs(tmp_path: Path) -> None:
    done = python(tmp_path / "none", "results", "table", "table1", "table10", "--out", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("table1*.csv"))) == 2


def test_help_names_everything(tmp_path: Path) -> None:
    text = python(tmp_path, "results", "--help").stdout
    assert all(name in text for name in ("table10", "st_table1", "figure1", "st_figure3", "wandb://entity/project"))

"""The commands, as a user types them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from launch_helpers import SMALL, id_of, launch, record_of, rows_of, wait_until

from launch import commands
from launch.clusters import LocalCluster, SlurmCluster, compose_cluster
from launch.requests import entries, parse
from sparse_rnn.core.conf import config_dir
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.tables.catalogue import Catalogue

SECONDS = [*SMALL, "training.epochs=360"]
TWO = ["--sweep", "sparsifier=set,rigl", *SECONDS, "cluster.runs=1"]
IDS = [id_of(*SECONDS, f"sparsifier={method}") for method in ("set", "rigl")]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def run(command: str, *arguments: str) -> None:
    """A command in this process."""
    getattr(commands, command)(parse(command, arguments))


@pytest.mark.documented
def test_from_plan_to_result_on_this_machine(root):
    plan = launch("plan", *TWO)
    assert plan.stderr == ""
    assert "2 runs: 2 missing\nleft: 2 runs, 3.73e10 FLOPs; device hours unknown: no earlier run" in plan.stdout
    assert [id in plan.stdout for id in IDS] == [True, True]

    assert "2 missing; 2 would be sent." in launch("submit", *TWO, "--dry-run").stdout
    assert not list(root.glob("*/submission.json"))

    assert "2 sent to this machine, 1 at a time." in launch("submit", *TWO).stdout
    assert "1 queued, 1 running; 0 sent." in launch("submit", *TWO).stdout
    wait_until(lambda: rows_of(root / IDS[0]) > 2)
    status = launch("status").stdout
    assert "epoch" in status
    assert "2 runs: 1 queued, 1 running" in status

    assert "2 of 2 cancelled" in launch("cancel", *TWO, "--yes").stdout
    wait_until(lambda: "2 missing" in launch("plan", *TWO).stdout)
    assert record_of(root / IDS[0])["status"] == "stopped"

    assert "2 sent" in launch("submit", *TWO).stdout
    assert "2 runs: 2 finished" in launch("status", "--watch", *TWO).stdout
    assert "Resuming after step" in launch("logs", IDS[0][:-4]).stdout
    assert launch("cancel", *TWO, "--yes").stdout == "Nothing is queued or running.\n"
    plan = launch("plan", *TWO, "seeds=1,2").stdout
    assert "2 missing, 2 finished" in plan
    assert "device minutes on" in plan


@pytest.mark.processes
def test_a_failed_run_is_sent_again_only_when_asked_to(root):
    wrong = ["--sweep", "optimizer.lr=1e30", *SMALL, "training.clip=null"]
    launch("submit", *wrong)
    launch("status", "--watch", *wrong)
    again = launch("submit", *wrong)
    assert "1 failed; 0 sent.\n--retry sends the failed ones again." in again.stdout
    plan = launch("plan", *wrong).stdout
    assert "The training loss became" in plan
    assert "log.txt" in plan
    assert "1 sent" in launch("submit", *wrong, "--retry").stdout
    launch("status", "--watch", *wrong)
    [log] = root.glob("*/log.txt")
    assert log.read_text().count("--- 2") == 2


def test_runs_whose_data_are_missing_are_not_sent(root, tmp_path):
    sent = launch("submit", "--sweep", "seed=1,2", "dataset=ptb", "budget=smoke")
    assert sent.returncode == 2
    assert sent.stderr.startswith("error: ")
    assert sent.stderr.count("\n") == 1
    assert not list(root.glob("*/submission.json"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plan"], "Which runs?"),
        (["plan", "tabel2"], r"tabel2 is not a table or figure \(did you mean table2"),
        (["plan", "table3", "optimizer.lrr=2"], r"table3.*row.*lrr"),
        (["plan", "table3", "seed=3"], "seeds="),
        (["plan", "table3", "seeds=1.5"], "whole numbers"),
        (["plan", "table3", "seeds=-1"], "whole numbers"),
        (["plan", "table3", "--retry"], "plan does not know --retry"),
        (["plan", "--sweep", "seed=range(1"], "cannot be read"),
        (["plan", "--sweep", "seed=range(1,4) model"], "cannot be read"),
        (["plan", "--sweep", "sparsifier=set,setty"], "setty does not exist"),
        (["submit", "table3", "cluster=slrum"], r"cluster=slrum does not exist \(did you mean slurm"),
        (["submit", "table3", "cluster.run=2"], "did you mean runs"),
        (["submit", "table3", "cluster.runs=0"], "at least 1"),
        (["submit", "table3", "cluster.runs_per_gpu=0"], "at least 1"),
        (["plan", "table3", "cluster.runs_per_gpu=2", "cluster.gpus=0"], "hides them all"),
        (["plan", "table3", "cluster=slurm", "cluster.runs_per_gpu=2"], r"set cluster\.gpus=1"),
        (["plan", "table3", "cluster=slurm", "cluster.runs_per_gpu=2", "cluster.gpus=2"], r"set cluster\.gpus=1"),
        (["plan", "table3", "cluster.sbatch.qos=high"], "sbatch is not a key of cluster=local"),
        (["plan", "table3", "cluster=slurm", "cluster.sbatch.job-name=x"], "leave it out"),
        (["plan", "table3", "cluster=slurm", "cluster.time=1"], "leaves a run no time"),
        (["plan", "table3", "cluster=slurm", "cluster.models.rnh.time=9"], "did you mean rhn"),
        (["plan", "table3", "cluster=slurm", "cluster.models.rhn.time=long"], "models.rhn.*could not be converted"),
        (["plan", "--sweep", ""], "--sweep is empty"),
        (["plan", "--sweep", "sparsifier='set"], "cannot be read"),
        (["plan", "--sweep", "model=3"], "must be a string"),
        (["cancel", "budget=paper", "--yes"], "name one"),
        (["status", "seeds=1"], "name one"),
        (["logs"], "Which run?"),
        (["logs", "rhn"], "was never sent"),
    ],
)
def test_mistakes_are_one_sentence(arguments, words):
    with pytest.raises(ConfigError, match=words) as mistake:
        run(*arguments)
    assert "\n" not in str(mistake.value)


def test_a_run_of_two_tables_is_sent_once(tmp_path):
    request = parse("plan", ["table2", "table3", "table2", "seeds=1"])
    found = entries(request, Catalogue(tmp_path))
    ids = [entry.run_id for entry in found]
    assert len(ids) == 32 + 15
    assert len(set(ids)) == 32 + 15 - 7  # five methods with Adam, RigL and Selfish-RNN with SNT-ASGD


def test_the_runs_sent_stand_under_their_blocks(root, monkeypatch, capsys):
    monkeypatch.setenv("SPARSE_RNN_RUNS", str(root))
    run("submit", "table3", "seeds=1", "dataset=pydoc", "budget=smoke", "--dry-run")
    lines = capsys.readouterr().out.splitlines()
    headings = [line for line in lines if line.startswith("table3: ")]
    assert headings == ["table3: Adam", "table3: SGD with momentum", "table3: SNT-ASGD"]
    assert lines[0] == headings[0]
    assert [len(lines[lines.index(heading) + 1].split("  ")) for heading in headings] == [3, 3, 3]


def test_a_table_composes_as_the_command_line_does(tmp_path):
    [entry] = [e for e in entries(parse("plan", ["table6", "seeds=3"]), Catalogue(tmp_path)) if "Ours" in e.label]
    assert entry.run_id == id_of(*entry.overrides)


def test_the_catalogue_is_thrown_away_when_a_file_changes(tmp_path, monkeypatch):
    request = parse("plan", ["--sweep", "seed=1,2", *SMALL])
    first = entries(request, Catalogue(tmp_path))
    stored = json.loads((tmp_path / "catalogue.json").read_text())
    monkeypatch.setattr(Catalogue, "_compose", lambda *_: pytest.fail("composed again"))
    assert entries(request, Catalogue(tmp_path)) == first
    (tmp_path / "catalogue.json").write_text(json.dumps(stored | {"fingerprint": "of other files"}))
    with pytest.raises(pytest.fail.Exception):
        entries(request, Catalogue(tmp_path))
    (tmp_path / "catalogue.json").write_text('{"torn')
    with pytest.raises(pytest.fail.Exception):
        entries(request, Catalogue(tmp_path))


def test_sweeps_are_products_in_hydras_grammar(tmp_path):
    request = parse("plan", ["--sweep", "sparsifier=set,selfish seed=range(1,4) sparsifier.sparsity=0.5,0.67", *SMALL])
    labels = [entry.label for entry in entries(request, Catalogue(tmp_path))]
    assert len(labels) == len(set(labels)) == 12
    assert labels[0] == "sparsifier=set sparsity=0.5, seed 1"


def test_clusters():
    local = compose_cluster(["cluster.runs=2"])
    assert isinstance(local, LocalCluster)
    assert local.threads_of_a_run() == max(1, len(os.sched_getaffinity(0)) // 2)
    slurm = compose_cluster(
        ["cluster=slurm", "cluster.cpus=3", "cluster.sbatch.qos=high", "cluster.models.rhn={time: 60, gpus: 1}"]
    )
    assert isinstance(slurm, SlurmCluster)
    assert (slurm.threads_of_a_run(), slurm.sbatch) == (3, {"qos": "high"})
    assert (slurm.of_model("rhn").time, slurm.of_model("rhn").gpus, slurm.of_model("on_lstm").gpus) == (60, 1, 0)


def test_a_cluster_of_ones_own(monkeypatch):
    path = config_dir() / "cluster" / f"my_test_{os.getpid()}.yaml"
    path.write_text("defaults: [slurm, _self_]\npartition: gpu\nsbatch: {constraint: a100}\n")
    try:
        mine = compose_cluster([f"cluster={path.stem}", "cluster.time=30"])
    finally:
        path.unlink()
    assert isinstance(mine, SlurmCluster)
    assert (mine.name, mine.partition, mine.time, mine.sbatch) == (path.stem, "gpu", 30, {"constraint": "a100"})


def test_looking_imports_nothing_heavy_once_the_runs_are_known(root):
    launch("plan", "table6")
    code = (
        "import sys; sys.argv = ['launch', 'plan', 'table6']\n"
        "from launch.__main__ import main; main()\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)

"""A rule, a method, a table and a cluster in a folder of one's own, through every command."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.documented
ROOT = Path(__file__).parents[2]
SMOKE = ["dataset=pydoc", "budget=smoke", "logger=files", "threads=1"]
FILES = {
    "my_rules.py": """\
from dataclasses import dataclass
from sparse_rnn.core.registry import register
from sparse_rnn.sparsity.rules.growth import RandomGrowth


@register("growth", "mine")
@dataclass
class MyGrowth(RandomGrowth):
    name: str = "mine"
""",
    "conf/growth/mine.yaml": "defaults: [schema_mine, _self_]\n",
    "conf/sparsifier/my_method.yaml": """\
defaults: [override /growth@_global_.growth: mine, _self_]
name: my_method
initial: er
removal: magnitude
""",
    "conf/cluster/here.yaml": "defaults: [local, _self_]\nruns: 1\nthreads: 1\n",
    "conf/table/my_table.yaml": """\
title: Growth at a small size
source: our notebook
columns: [valid, test]
seeds: [1]
common: [dataset=pydoc, budget=smoke, logger=files]
blocks:
  - label: Growth
    rows:
      - {label: Mine, with: [sparsifier=rigl, growth=mine]}
      - {label: Random, with: [sparsifier=rigl, growth=random]}
      - {label: My method, with: [sparsifier=my_method]}
""",
}


class Lab:
    """A folder of one's own, with the files above and nothing of the checkout."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name, text in FILES.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)

    def run(self, *arguments: str, plugins: str = "my_rules", conf: str = "") -> "subprocess.CompletedProcess[str]":
        """`python -m ARGUMENTS` in the folder."""
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "SPARSE_RNN_RUNS": str(self.folder / "runs")}
        environment |= {"SPARSE_RNN_PLUGINS": plugins, "SPARSE_RNN_CONF": conf, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=280)

    def printed(self, *arguments: str, **variables: str) -> str:
        """What a command prints; it must succeed."""
        done = self.run(*arguments, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refused(self, *arguments: str, **variables: str) -> str:
        """The sentence of a command that must fail."""
        done = self.run(*arguments, **variables)
        assert (done.returncode, done.stderr.count("\n")) == (2, 1), done.stdout + done.stderr
        return done.stderr

    def records(self, **asked: object) -> list[dict]:
        """The records of runs with these names of components, or this seed."""
        found = [json.loads(path.read_text()) for path in sorted(self.folder.glob("runs/*/record.json"))]
        names = [
            {group: v["name"] if isinstance(v, dict) and "name" in v else v for group, v in r["config"].items()}
            for r in found
        ]
        return [record for record, name in zip(found, names, strict=True) if asked.items() <= name.items()]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """The folder, in which two runs were trained by one command."""
    lab = Lab(tmp_path_factory.mktemp("lab"))
    lab.printed("sparse_rnn.train", "-m", "--config-dir", "conf", "sparsifier=rigl", "growth=mine,random", *SMOKE)
    return lab


def test_a_sweep_trains_and_records_the_code(lab):
    [mine], [other] = lab.records(growth="mine", sparsifier="rigl"), lab.records(growth="random", sparsifier="rigl")
    assert mine["status"] == other["status"] == "finished"
    code = mine["environment"]["code"]
    assert code["growth=mine"]["file"] == str(lab.folder / "my_rules.py")
    assert len(code["growth=mine"]["sha256"]) == 64
    assert code["model=stacked_lstm"]["file"] == "sparse_rnn/models/stacked_lstm.py"  # logs can be published
    assert {"model=stacked_lstm", "dataset=pydoc", "removal=magnitude", "initial=er", "schedule=cosine"} <= set(code)
    assert code.keys() - {"growth=mine"} == other["environment"]["code"].keys() - {"growth=random"}


def test_jobs_of_hydra_s_launcher_find_it(lab):
    lab.printed(
        *("sparse_rnn.train", "-m", "hydra/launcher=submitit_local", "hydra.searchpath=[conf]"),
        *("sparsifier=rigl", "growth=mine", "seed=2", *SMOKE),
    )
    [record] = lab.records(growth="mine", seed=2)
    assert record["status"] == "finished"


def test_describe_help_and_suggestions_know_it(lab):
    assert "rigl-s1" in lab.printed("sparse_rnn.describe", "hydra.searchpath=[conf]", "sparsifier=rigl", "growth=mine")
    assert ", mine, " in lab.printed("sparse_rnn.train", "--help", conf="conf")
    assert "here" in lab.refused("launch", "plan", "table2", "cluster=heer", "--config-dir", "conf")
    sentence = lab.refused("sparse_rnn.describe", "sparsifier=my_metod", conf="conf")
    assert sentence == "error: sparsifier=my_metod does not exist (did you mean my_method?).\n"


def test_a_table_by_its_path_from_plan_to_page(lab):
    table = ["conf/table/my_table.yaml", "threads=1"]
    assert "2 finished" in lab.printed("launch", "plan", *table, conf="conf")
    assert "1 sent" in lab.printed("launch", "submit", *table, "cluster=here", "--config-dir", "conf")
    assert "3 runs: 3 finished" in lab.printed("launch", "status", *table, "--watch", conf="conf")
    shown = lab.printed("results", "table", *table, "--source", "records", conf="conf")
    assert "## Growth at a small size" in shown
    assert "After our notebook." in shown
    assert "the paper" not in shown.replace("Protocol: paper", "")
    again = lab.printed("results", "table", "my_table", "threads=1", "--source", "records", "--config-dir", "conf")
    assert without_command(again) == without_command(shown)
    written = lab.printed("results", "table", *table, "--source", "records", "--out", "out", conf="conf")
    assert written.split() == [f"out/my_table.{ending}" for ending in ("md", "csv", "tex")]
    assert "paper" not in (lab.folder / "out" / "my_table.csv").read_text()
    lab.printed("results", "site", "--source", "records", "--out", "site.html", conf="conf")
    assert "Growth at a small size" in (lab.folder / "site.html").read_text()


def without_command(text: str) -> str:
    return text.partition("Made by")[0]


def test_what_is_done_with_a_run_needs_the_module_alone(lab):
    [record] = lab.records(growth="mine", sparsifier="rigl", seed=1)
    run = f"run={record['run_id']}"
    assert "perplexity" in lab.printed("sparse_rnn.evaluate", run)
    assert "exported.safetensors" in lab.printed("sparse_rnn.export", run, "format=csr", "out=exported.safetensors")
    assert lab.printed("sparse_rnn.generate", run, "words=3")


def test_a_missing_module_is_a_sentence_about_that_run_alone(lab):
    [record] = lab.records(growth="mine", sparsifier="rigl", seed=1)
    unknown = "growth=mine is not known here: if a module of yours registers it, name that in SPARSE_RNN_PLUGINS."
    sentence = lab.refused("sparse_rnn.evaluate", f"run={record['run_id']}", plugins="")
    assert sentence == f"error: {lab.folder}/runs/{record['run_id']} cannot be used: {unknown}\n"
    composed = lab.refused("sparse_rnn.train", "growth=mine", *SMOKE, plugins="", conf="conf")
    assert composed == (
        f"error: growth=mine has a file, {lab.folder}/conf/growth/mine.yaml, and no class: name the module that "
        "registers it in SPARSE_RNN_PLUGINS.\n"
    )
    fileless = lab.refused("sparse_rnn.train", "growth=mine", *SMOKE)
    assert fileless == (
        "error: growth=mine has a class and no file: write growth/mine.yaml, with the line `defaults: [schema_mine, "
        "_self_]`, into a folder that SPARSE_RNN_CONF or --config-dir names.\n"
    )
    assert "finished" in lab.printed(
        "launch", "plan", "--sweep", "seed=1", "sparsifier=rigl", "growth=random", *SMOKE, plugins=""
    )
    lab.printed("results", "site", "--source", "records", "--out", "without.html", plugins="")
    assert record["run_id"] in (lab.folder / "without.html").read_text()


def test_sparsify_takes_it_by_name(lab):
    (lab.folder / "loop.py").write_text("""\
import torch
from sparse_rnn import sparsify

for arguments in ({"growth": "mine"}, {"method": "my_method"}):
    model = torch.nn.LSTM(8, 16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    sparsifier = sparsify(model, optimizer, sparsity=0.5, steps=4, update_interval=2, **arguments)
    for _ in range(4):
        optimizer.zero_grad()
        model(torch.randn(3, 2, 8))[0].square().mean().backward()
        sparsifier.before_step()
        optimizer.step()
        sparsifier.after_step()
    print(f"{sparsifier.sparsity:.2f}")
""")
    assert lab.printed("loop", conf="conf").split() == ["0.50", "0.50"]


def test_a_run_that_failed_before_its_first_checkpoint_begins_with_the_code_of_now(lab):
    asked = ["--config-dir", "conf", "sparsifier=rigl", "growth=mine", "seed=7", *SMOKE]
    file = lab.folder / "my_rules.py"
    before = file.read_text()
    try:
        file.write_text(before + "    def __call__(self, *arguments):\n        raise IndexError('of mine')\n")
        assert "IndexError: of mine" in lab.run("sparse_rnn.train", *asked).stderr
    finally:
        file.write_text(before)
    assert "warning" not in lab.printed("sparse_rnn.train", *asked)
    assert "warning" not in lab.printed("sparse_rnn.train", *asked), "when it is finished"


def test_a_change_of_the_code_is_said_and_changes_no_id(lab):
    asked = ["--config-dir", "conf", "sparsifier=rigl", "growth=mine", *SMOKE]
    assert "warning" not in lab.printed("sparse_rnn.train", *asked)
    file = lab.folder / "my_rules.py"
    before = file.read_text()
    try:
        file.write_text(before + "\n\n# another version\n")
        said = lab.printed("sparse_rnn.train", *asked)
    finally:
        file.write_text(before)
    assert "is finished" in said
    assert "warning: the code of growth=mine has changed since this run began" in said

"""A rule and a cluster of a folder of one's own, found by jobs on the nodes of a SLURM cluster."""

import json
import os
import subprocess
import sys

import pytest
from slurm_sweep import SMALL, until

RULE = """\
from dataclasses import dataclass
from sparse_rnn.core.registry import register
from sparse_rnn.sparsity.rules.growth import RandomGrowth


@register("growth", "mine")
@dataclass
class MyGrowth(RandomGrowth):
    name: str = "mine"
"""
FILES = {
    "my_rules.py": RULE,
    "conf/growth/mine.yaml": "defaults: [schema_mine, _self_]\n",
    "conf/cluster/my.yaml": "defaults: [slurm, _self_]\ncpus: 1\nmemory_gb: 1\ntime: 10\n",
}


@pytest.mark.parametrize(
    "command",
    [
        ["launch", "submit", "--sweep", "growth=mine", "cluster=my"],
        [
            *("sparse_rnn.train", "-m", "growth=mine", "hydra/launcher=submitit_slurm"),
            *("hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=1", "hydra.launcher.timeout_min=10"),
        ],
    ],
    ids=["launch", "hydra"],
)
def test_jobs_find_what_the_command_line_names(command, slurm, tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    environment = {**os.environ, "SPARSE_RNN_RUNS": "runs", "SPARSE_RNN_PLUGINS": "my_rules"}
    line = [sys.executable, "-m", *command, "--config-dir", "conf", "sparsifier=rigl", *SMALL]
    done = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr

    def records() -> list[dict]:
        return [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/record.json")]

    until(slurm, lambda: [record["status"] for record in records()] == ["finished"], "the run is finished")
    [record] = records()
    assert record["environment"]["code"]["growth=mine"]["file"] == str(tmp_path / "my_rules.py")
    slurm.wait_until_empty(60)

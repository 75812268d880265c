"""`launch tune` on SLURM: its trials are jobs, several at a time."""

import os
import subprocess
import sys

import pytest
from slurm_sweep import ONE, SMALL

from sparse_rnn.runs.studies import FOLDER, read_study

pytest.importorskip("optuna", reason="the extra `tune` brings it")


def test_the_trials_of_a_study_are_jobs(slurm, tmp_path):
    root = tmp_path / "runs"
    words = ["tune", "optimizer.lr=log(1,40)", "trials=3", "study=mine", *SMALL, *ONE, "cluster.parallel=2"]
    done = subprocess.run(
        [sys.executable, "-m", "launch", *words],
        env=os.environ | {"SPARSE_RNN_RUNS": str(root)},
        capture_output=True,
        text=True,
        timeout=600,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stderr
    study = read_study(root / FOLDER / "mine")
    assert study is not None
    assert [trial.state for trial in study.trials] == ["complete"] * 3
    assert all((root / trial.run_id / "submission.json").exists() for trial in study.trials)
    slurm.wait_until_empty(60)

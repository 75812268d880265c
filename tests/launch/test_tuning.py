"""`launch tune`, as a user types it: runs of this machine, killed and gone on with."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from launch_helpers import SMALL, launch, record_of, wait_until

from sparse_rnn.runs.studies import FOLDER, best_trial, read_study

pytest.importorskip("optuna", reason="the extra `tune` brings it")

SPACE = "optimizer.lr=log(1,40) sparsifier=choice(set,rigl)"
TUNE = ["tune", SPACE, *SMALL, "study=mine", "cluster.runs=2"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "runs"


def starts(root: Path) -> int:
    """How often training was started, over all runs."""
    return sum(log.read_text().count("--- 2") for log in root.glob("*/log.txt"))


@pytest.mark.processes
def test_a_tuner_that_is_killed_goes_on_with_the_runs_it_had_sent(root):
    first = subprocess.Popen(
        [sys.executable, "-m", "launch", *TUNE, "trials=3"],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: len(list(root.glob("*/submission.json"))) == 2)
    assert "is being tuned already" in launch(*TUNE, "trials=3").stderr
    first.send_signal(signal.SIGKILL)
    first.wait()
    done = launch(*TUNE, "trials=3")
    assert done.returncode == 0, done.stderr
    study = read_study(root / FOLDER / "mine")
    assert study is not None
    assert [trial.state for trial in study.trials] == ["complete"] * 3
    assert starts(root) == len({trial.run_id for trial in study.trials}) == 3  # none twice
    for trial in study.trials:
        assert record_of(root / trial.run_id)["results"]["valid/perplexity"] == trial.value
    best = best_trial(study)
    assert best is not None
    assert best.value == min(trial.value or 0.0 for trial in study.trials)
    assert f"Best: trial {best.number}, valid perplexity {best.value:.2f}" in done.stdout
    assert f"optimizer.lr={best.parameters['optimizer.lr']}" in done.stdout.splitlines()[-2]

    again = launch(*TUNE, "trials=3")  # nothing is left to do
    assert again.stdout == done.stdout[done.stdout.index("mine: 3 trials") :]
    assert starts(root) == 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "What is tuned?"),
        (["table2", SPACE], "tune does not take table2"),
        ([SPACE, "seeds=1,2"], "tune does not take seeds"),
        (["sparsifier.removal_rate=uniform(.3,1.2)", *SMALL], "removal_rate=1.2"),
        (["dataset=choice(pydoc,pydoc_topics)", "model=lstm_classifier", *SMALL[1:]], "model=lstm_classifier"),
        (["model.nothing=int(1,2)", *SMALL], "nothing"),
    ],
)
def test_what_cannot_be_tuned_leaves_nothing(root, arguments, said, capsys):
    from launch import commands
    from launch.requests import parse
    from sparse_rnn.core.errors import ConfigError

    with pytest.raises(ConfigError, match=said.replace("?", r"\?")):
        commands.tune(parse("tune", arguments))
    assert not (root / FOLDER).exists()
    assert not list(root.glob("*/submission.json"))

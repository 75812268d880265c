"""`watch`: the curves of a run, off a terminal and on one, until the run is over."""

import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sparse_rnn import watch
from sparse_rnn.core.errors import ConfigError

SMALL = ["dataset=pydoc", "budget=smoke", "logger=files", "device=cpu", "threads=1"]
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a finished run."""
    from sparse_rnn.training.sweep import train_all

    root = tmp_path_factory.mktemp("watched")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPARSE_RNN_RUNS", str(root))
        assert not train_all(SMALL)
    return next(root.glob("*/record.json")).parent


def test_off_a_terminal_it_prints_one_picture(run, capsys):
    watch.watch(str(run))
    printed = capsys.readouterr().out
    assert printed.startswith(f"{run.name}  finished  epoch 4 of 4  valid ")
    assert "perplexity\n" in printed
    assert re.search(r"input \S+  forget \S+  cell \S+  output \S+", printed)
    assert "\x1b" not in printed


def test_a_run_that_has_no_epoch_yet_shows_its_training_loss(run, tmp_path, capsys):
    folder = tmp_path / "runs" / run.name
    folder.mkdir(parents=True)
    (folder / "record.json").write_text((run / "record.json").read_text().replace('"finished"', '"running"'))
    (folder / "metrics.jsonl").write_text('{"step": 5, "epoch": 1, "train/loss_recent": 6.5}\n')
    watch.watch("last")
    printed = capsys.readouterr().out
    assert "running  epoch 1 of 4\n" in printed
    assert "loss 6.5" in printed


def test_a_run_that_is_not_there_is_said():
    with pytest.raises(ConfigError, match="does not exist"):
        watch.watch("nothing")


@pytest.mark.processes
def test_on_a_terminal_it_draws_anew_until_the_run_is_over(tmp_path: Path) -> None:
    environment = os.environ | {"OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "100", "LINES": "40"}
    training = subprocess.Popen(
        [sys.executable, "-m", "sparse_rnn.train", *SMALL, "training.epochs=60"],
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    root = tmp_path / "runs"
    while not list(root.glob("*/record.json")):
        assert training.poll() is None
    mine, its = pty.openpty()
    watching = subprocess.Popen([sys.executable, "-m", "sparse_rnn", "watch"], env=environment, stdout=its)
    os.close(its)
    seen = b""
    while True:
        try:
            seen += os.read(mine, 65536)
        except OSError:  # the other end was closed
            break
    os.close(mine)
    assert (watching.wait(), training.wait()) == (0, 0)
    shown = [int(epoch) for epoch in re.findall(r"epoch (\d+) of 60", ESCAPES.sub("", seen.decode()))]
    assert shown[-1] == 60
    assert len(set(shown)) > 1

"""`sparse-rnn doctor` as a user sees it."""

import os
import re
import subprocess
import sys
from itertools import pairwise

from sparse_rnn import __version__
from sparse_rnn.diagnosis.apart import CHECKS
from sparse_rnn.diagnosis.examination import QUICK

LINE = re.compile(r"^(ok|note|FAIL) +(\S+) +\S")
FAILING = {"configuration", "runs", "imports", "device"}
NAMES = [*(look.name for look in QUICK), *CHECKS]


def doctor(folder, *arguments, **environment):
    command = [sys.executable, "-m", "sparse_rnn", "doctor", *arguments]
    return subprocess.run(command, cwd=folder, env=os.environ | environment, capture_output=True, text=True)


def found(text):
    return {match[2]: match[1] for match in map(LINE.match, text.splitlines()) if match}


def test_all_is_well(tmp_path):
    done = doctor(tmp_path, SPARSE_RNN_RUNS="runs")
    first, *_, last = done.stdout.splitlines()
    assert (done.returncode, done.stderr, last) == (0, "", "Everything that the commands need works."), done.stdout
    assert first.startswith(f"sparse-rnn {__version__}, Python 3.")
    assert [*found(done.stdout)] == NAMES
    assert "FAIL" not in found(done.stdout).values()
    assert not any(tmp_path.iterdir())


def test_all_that_is_broken_is_named_with_what_to_do(tmp_path):
    """In one screen: no compiler, no folder to write to, no configuration, no numpy and no rich."""
    for name in ("numpy", "rich"):
        (tmp_path / f"{name}.py").write_text("raise RuntimeError('of another version')")
    (tmp_path / "file").touch()
    folders = dict.fromkeys(("SPARSE_RNN_RUNS", "SPARSE_RNN_DATA", "SPARSE_RNN_CACHE"), str(tmp_path / "file"))
    python = os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])
    done = doctor(tmp_path, PYTHONPATH=python, CXX="none", SPARSE_RNN_CONF="none", WANDB_MODE="online", **folders)
    states = found(done.stdout)
    assert (done.returncode, done.stderr) == (1, ""), done.stdout
    assert [*states] == NAMES
    assert {name for name, state in states.items() if state == "FAIL"} == FAILING
    assert {"data", "W&B", "compiler", "kernels"} <= {name for name, state in states.items() if state == "note"}
    lines = done.stdout.splitlines()
    advised = [line for before, line in pairwise(lines) if before.startswith(("note", "FAIL"))]
    assert all(line.strip().startswith("-> ") for line in advised)
    assert len(lines) <= 30
    assert lines[-1] == "Not everything that the commands need works: see 4 lines with FAIL."


def test_an_argument_is_refused(tmp_path):
    done = doctor(tmp_path, "all=true")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)

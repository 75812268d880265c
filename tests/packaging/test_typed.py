"""A project that installs the wheel has its types."""

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

pytestmark = pytest.mark.documented
ROOT = Path(__file__).parents[2]
PROGRAM = """\
import torch

import sparse_rnn
from sparse_rnn import ConfigError, sparsify

model = torch.nn.LSTM(4, 8)
sparsifier = sparsify(model, torch.optim.Adam(model.parameters()), sparsity=0.5, steps=20)
reveal_type(sparse_rnn.__version__)
reveal_type(sparsifier)
reveal_type(sparsifier.after_step())
reveal_type(ConfigError.exit_code)
sparsify(model, torch.optim.Adam(model.parameters()), sparsity="half", steps=20)
"""
SPARSIFIER, REPORT = "sparse_rnn.sparsity.step_sparsifier.StepSparsifier", "sparse_rnn.sparsity.sparsifier.UpdateReport"


@pytest.fixture
def python(tmp_path):
    """An interpreter with the wheel in its site-packages, and with what is installed here but the checkout."""
    venv.create(tmp_path / "venv", symlinks=True)
    [packages] = (tmp_path / "venv").glob("lib/python*/site-packages")
    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    zipfile.ZipFile(wheel).extractall(packages)
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    return tmp_path / "venv" / "bin" / "python"


def test_mypy_sees_the_types_of_the_installed_wheel(python, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "mypy", "--strict", "--python-executable", str(python), "program.py"]
    environment = os.environ | {"PYTHONPATH": "", "MYPYPATH": ""}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert re.findall(r'Revealed type is "(.*)"', done.stdout) == ["str", SPARSIFIER, f"{REPORT} | None", "int"]
    [error] = [line for line in done.stdout.splitlines() if ": error: " in line]
    assert 'Argument "sparsity" to "sparsify" has incompatible type "str"' in error

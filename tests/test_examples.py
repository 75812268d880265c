"""The scripts in docs/examples: each trains, stops, and resumes to the bit."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from storages import masked_only
from torch import Tensor

pytestmark = [pytest.mark.documented, masked_only("sparsify masks dense weights")]

EXAMPLES = Path(__file__).parent.parent / "docs" / "examples"
NEEDS = {"lightning_callback": "lightning", "accelerate_loop": "accelerate"}


def tensors_of(path: Path) -> dict[str, Tensor]:
    """Every tensor of a checkpoint, which is a file or a folder of files, by where it stands."""
    found: dict[str, Tensor] = {}

    def collect(where: str, value: object) -> None:
        if isinstance(value, Tensor):
            found[where] = value
        elif isinstance(value, dict):
            for key, each in value.items():
                collect(f"{where}/{key}", each)
        elif isinstance(value, list | tuple):
            for key, each in enumerate(value):
                collect(f"{where}/{key}", each)

    for file in [path] if path.is_file() else sorted(path.iterdir()):
        if file.suffix == ".safetensors":
            from safetensors.torch import load_file

            collect(file.name, load_file(file))
        elif "random_states" not in file.name and file.suffix != ".json":
            collect(file.name if path.is_dir() else "", torch.load(file, weights_only=False))
    return found


@pytest.mark.parametrize("script", sorted(path.stem for path in EXAMPLES.glob("*.py")))
def test_an_example_resumes_to_the_bit(script, tmp_path):
    needed = NEEDS.get(script)
    if needed and importlib.util.find_spec(needed) is None:
        pytest.skip(f"{needed} is not installed; `make setup` brings it")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "TRITON_INTERPRET": "0"}

    def run(checkpoint: str, *stop: str) -> str:
        command = [sys.executable, str(EXAMPLES / f"{script}.py"), checkpoint, *stop]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()[-1]

    whole = run("whole")
    assert "step 60 of 60, no further update>" in whole
    assert re.search("sparsity=0[.](7999|800[0-3])", whole)
    assert "step 33 of 60, next update after step " in run("parts", "33")
    assert run("parts") == whole
    expected, found = tensors_of(tmp_path / "whole"), tensors_of(tmp_path / "parts")
    assert expected.keys() == found.keys()
    assert any("weight" in where for where in expected)
    for where, value in expected.items():
        assert torch.equal(value, found[where]), where


def test_every_example_stands_in_the_documentation():
    page = (EXAMPLES.parent / "your-own-network.md").read_text(encoding="utf-8")
    for path in EXAMPLES.glob("*.py"):
        assert f"(examples/{path.name})" in page

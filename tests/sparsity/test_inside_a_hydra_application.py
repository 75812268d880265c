"""`sparsify` in other people's Hydra applications: real multiruns, in processes of their own."""

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.documented
APPLICATION = """
import os
from dataclasses import dataclass
from pathlib import Path

import hydra
import torch
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig

from sparse_rnn import sparsify


@dataclass
class Settings:
    lr: float = 1.0
    method: str = "selfish"


ConfigStore.instance().store(name="schema", node=Settings)
ConfigStore.instance().store(name="config", node={"defaults": ["schema", "_self_"]})


@hydra.main(version_base=VERSION, config_path=None, config_name=NAME)
def main(settings):
    model = torch.nn.GRU(4, 8)
    optimizer = torch.optim.SGD(model.parameters(), lr=settings.lr)
    sparsifier = sparsify(model, optimizer, sparsity=0.5, steps=10, update_interval=2, method=settings.method)
    output = HydraConfig.get().runtime.output_dir
    Path(output, "found").write_text(f"{settings.lr} {sparsifier.config.name} {sparsifier.sparsity:.2f}")
    Path("here").write_text(f"{settings.lr}")
    if VERSION == "1.1":
        assert os.path.realpath(output) == os.getcwd()


if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("version", ["1.1", "1.3"])
@pytest.mark.parametrize("name", ["schema", "config"])
def test_every_job_of_a_multirun_has_its_own_folder(version, name, tmp_path: Path):
    (tmp_path / "app.py").write_text(f"VERSION, NAME = {version!r}, {name!r}\n{APPLICATION}")
    command = [
        sys.executable,
        "app.py",
        "-m",
        "lr=1,2,3",
        "hydra.sweep.dir=sweep",
        "hydra.sweep.subdir=${hydra.job.num}",
    ]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = {path.parent.name: path.read_text() for path in (tmp_path / "sweep").glob("*/found")}
    assert found == {str(job): f"{job + 1}.0 selfish 0.50" for job in range(3)}
    here = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("here"))
    assert here == ([f"sweep/{job}/here" for job in range(3)] if version == "1.1" else ["here"])


def test_a_call_before_the_application_starts(tmp_path: Path):
    first = "import torch; from sparse_rnn import sparsify; model = torch.nn.GRU(4, 8)"
    call = "sparsify(model, torch.optim.SGD(model.parameters(), 0.1), sparsity=0.5, steps=10, update_interval=2)"
    (tmp_path / "app.py").write_text(f"{first}\n{call}\nVERSION, NAME = '1.1', 'config'\n{APPLICATION}")
    command = [sys.executable, "app.py", "lr=5", "method=rigl", "hydra.run.dir=out"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out/found").read_text() == "5.0 rigl 0.50"

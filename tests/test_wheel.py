"""What is installed: one top-level name, in which launch and results work as in a checkout."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from hatchling.builders.sdist import SdistBuilder
from hatchling.builders.wheel import WheelBuilder

from sparse_rnn import __version__

pytestmark = pytest.mark.documented

ROOT = Path(__file__).parent.parent
DIST_INFO = f"sparse_rnn-{__version__}.dist-info"
SMOKE = ["dataset=pydoc", "budget=smoke", "logger=files", "threads=1"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder into which the wheel is unpacked, as pip does it."""
    folder = tmp_path_factory.mktemp("wheel")
    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    zipfile.ZipFile(wheel).extractall(folder / "installed")
    return folder / "installed"


def from_wheel(installed, folder, *arguments):
    """`python ARGUMENTS` in an empty folder, with the package of the wheel in place of the checkout's."""
    environment = {**os.environ, "PYTHONPATH": str(installed), "SPARSE_RNN_RUNS": "runs"}
    command = [sys.executable, *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_wheel_holds_the_configuration_and_works_from_any_folder(installed, tmp_path):
    assert (installed / "sparse_rnn/conf/config.yaml").is_file()
    code = (
        "from sparse_rnn.config.compose import compose_run; from sparse_rnn.core.conf import config_dir; "
        "print(config_dir()); print(compose_run(['model=rhn']).model.hidden)"
    )
    assert from_wheel(installed, tmp_path, "-c", code).split() == [str(installed / "sparse_rnn/conf"), "830"]


def test_the_wheel_claims_one_name_and_offers_every_command(installed, tmp_path):
    assert sorted(path.name for path in installed.iterdir()) == ["sparse_rnn", DIST_INFO]
    entry_points = (installed / DIST_INFO / "entry_points.txt").read_text()
    assert entry_points.split() == ["[console_scripts]", "sparse-rnn", "=", "sparse_rnn.__main__:main"]
    assert not (installed / "sparse_rnn/results/output").exists()
    plan = from_wheel(installed, tmp_path, "-m", "sparse_rnn", "launch", "plan", "table6", "budget=smoke")
    assert "9 runs: 9 missing" in plan
    assert "| SET" in from_wheel(installed, tmp_path, "-m", "sparse_rnn", "results", "table", "table1")


def test_the_example_is_in_the_wheel_and_writes_from_any_folder(installed, tmp_path):
    packed = {path.name: path.stat().st_size for path in (installed / "sparse_rnn/example").iterdir()}
    assert set(packed) == {"README.md", "config.json", "model.safetensors", "vocabulary.json"}
    assert sum(packed.values()) <= 2_000_000
    text = from_wheel(installed, tmp_path, "-m", "sparse_rnn", "generate", "run=example", "prompt=the", "words=20")
    assert text.startswith("the ")
    assert not any(tmp_path.iterdir())


def test_an_installed_launch_sends_runs_to_this_machine(installed, tmp_path):
    """Its worker and its jobs are modules of the installed package."""
    sweep = ["--sweep", "seed=1,2", *SMOKE]
    sent = from_wheel(installed, tmp_path, "-m", "sparse_rnn", "launch", "submit", *sweep)
    assert "2 sent to this machine" in sent
    watched = from_wheel(installed, tmp_path, "-m", "sparse_rnn", "launch", "status", "--watch", *sweep)
    assert "2 runs: 2 finished" in watched


def test_a_wheel_can_be_built_from_the_source_distribution(tmp_path):
    [archive] = SdistBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    shutil.unpack_archive(archive, tmp_path)
    source = Path(archive).name.removesuffix(".tar.gz")
    [wheel] = WheelBuilder(str(tmp_path / source)).build(directory=str(tmp_path), versions=["standard"])
    names = zipfile.ZipFile(wheel).namelist()
    assert {"sparse_rnn/launch/__main__.py", "sparse_rnn/results/paper/claims.csv"} <= set(names)
    assert "sparse_rnn/example/model.safetensors" in names
    assert {name.split("/")[0] for name in names} == {"sparse_rnn", DIST_INFO}

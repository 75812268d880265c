"""uv.lock, and constraints.txt, which is made out of it."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "uv.lock").read_text()
LOCKED = tomllib.loads(TEXT)["package"]
PACKAGES = {package["name"]: package for package in LOCKED}
OF_CUDA = re.compile(r"nvidia-|cuda-|triton$")


def test_constraints_are_the_versions_of_the_lock():
    lines = (ROOT / "constraints.txt").read_text().splitlines()[1:]
    pinned = [line.partition(" ;")[0] for line in lines]  # a package with two versions says for which Python each is
    locked = {f"{package['name']}=={package['version']}" for package in LOCKED if "version" in package}
    assert sorted(pinned) == sorted(line for line in locked if not OF_CUDA.match(line.partition("==")[0]))


def test_the_lock_names_public_hosts_alone():
    assert set(re.findall(r"https?://([^/\"]+)", TEXT)) == {"pypi.org", "files.pythonhosted.org"}


def test_every_extra_is_locked():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(PACKAGES["sparse-rnn"]["optional-dependencies"]) == set(extras)


@pytest.mark.documented
def test_the_lock_fits_the_project():
    """Resolved anew: this asks the registry."""
    command = [
        sys.executable,
        "-m",
        "uv",
        "--no-config",
        "lock",
        "--check",
        "--default-index",
        "https://pypi.org/simple",
    ]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("UV_")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

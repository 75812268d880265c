"""Without the extra, `sparsify` works with torch, numpy and omegaconf, and the commands name what is missing."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from hatchling.builders.wheel import WheelBuilder

from sparse_rnn import __version__
from sparse_rnn.__main__ import COMMANDS
from sparse_rnn.core.extras import IMPORTED, IMPORTED_FOR_KERNELS, OPTIONAL, missing_extra

ROOT = Path(__file__).parent.parent
LIGHT = {"torch", "numpy", "omegaconf"}
NAME = re.compile(r"^[A-Za-z0-9._-]+")

# What follows `pip install sparse-rnn` in an empty environment: everything else cannot be imported.
BLOCK = """
import runpy, sys

class Visible:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        return None if name.partition(".")[0] in BLOCKED else self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = map(Visible, sys.meta_path)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The folder into which the wheel is unpacked, as pip does it."""
    folder = tmp_path_factory.mktemp("light")
    [wheel] = WheelBuilder(str(ROOT)).build(directory=str(folder), versions=["standard"])
    zipfile.ZipFile(wheel).extractall(folder / "installed")
    return folder / "installed"


def requirements(text: str | None) -> set[str]:
    return {NAME.match(line).group().lower().replace("_", "-") for line in (text or "").splitlines() if line.strip()}


def with_their_own(names: set[str]) -> set[str]:
    """Distributions, and those that they require without an extra, as far as they are installed."""
    found, waiting = set(), set(names)
    while waiting:
        name = waiting.pop()
        found.add(name)
        try:
            lines = distribution(name).requires or []
        except ModuleNotFoundError:
            continue
        waiting |= requirements("\n".join(line for line in lines if "extra ==" not in line)) - found
    return found


def blocked(*also: str) -> set[str]:
    """The names to import that neither torch, numpy, omegaconf and `also` nor what these require bring."""
    visible = with_their_own(LIGHT | set(also)) | {"sparse-rnn"}
    homes = packages_distributions()
    return {
        module for module, owners in homes.items() if not {o.lower().replace("_", "-") for o in owners} & visible
    } - {"launch", "results", "benchmarks"}


def run(wheel: Path, folder: Path, code: str, *also: str) -> subprocess.CompletedProcess:
    """Python code in an empty folder, with the package of the wheel and only those packages and `also` visible."""
    environment = {**os.environ, "PYTHONPATH": str(wheel), "SPARSE_RNN_RUNS": "runs", "COLUMNS": "200"}
    program = f"BLOCKED = {blocked(*also)!r}\n{BLOCK}\n{code}"
    command = [sys.executable, "-P", "-c", program]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_wheel_requires_three_packages(wheel):
    metadata = Parser().parsestr((wheel / f"sparse_rnn-{__version__}.dist-info/METADATA").read_text())
    lines = metadata.get_all("Requires-Dist")
    assert requirements("\n".join(line for line in lines if "extra ==" not in line)) == LIGHT
    assert {"experiments", "dev", "notebooks"} <= set(metadata.get_all("Provides-Extra"))


def test_the_names_of_the_extra_are_those_of_pyproject():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    kernels, extra = (requirements("\n".join(extras[name])) for name in ("kernels", "experiments"))
    assert "sparse-rnn[kernels]" in extras["experiments"]
    homes = packages_distributions()
    for modules, wanted in ((IMPORTED_FOR_KERNELS, kernels), (IMPORTED - IMPORTED_FOR_KERNELS, extra - {"sparse-rnn"})):
        brought = {module: {owner.lower().replace("_", "-") for owner in homes[module]} for module in modules}
        assert all(owners & wanted for owners in brought.values()), brought
        assert wanted <= set.union(*brought.values())


def test_the_extras_of_their_own_are_those_of_pyproject():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for name, (_, imported) in OPTIONAL.items():
        assert requirements("\n".join(extras[name])) == {module.replace("_", "-") for module in imported}
    brought = {name for extra in ("onnx", "hub", "tune", "tensorboard") for name in OPTIONAL[extra][1]}
    assert {name.replace("_", "-") for name in brought} <= requirements("\n".join(extras["dev"]))


@pytest.mark.parametrize(
    ("module", "user", "extra"),
    [
        ("onnxruntime.capi", "format=onnx", "onnx"),
        ("huggingface_hub.errors", "a model of a hub", "hub"),
        ("optuna", "tune", "tune"),
        ("tensorboard", "logger=tensorboard", "tensorboard"),
        ("mlflow", "logger=mlflow", "mlflow"),
    ],
)
def test_what_is_said_for_want_of_an_extra(module, user, extra):
    name = module.partition(".")[0]
    missing = missing_extra(ModuleNotFoundError("", name=module))
    assert missing == f"{name} is not installed, and {user} needs it: pip install 'sparse-rnn[{extra}]' brings it."


def test_the_extra_for_digits_is_in_a_checkout_too():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras["digits"]) == {"scikit-learn"} <= set(extras["dev"])
    assert "\nscikit-learn==" in (ROOT / "constraints.txt").read_text()


def test_the_checkout_installs_all_of_it():
    assert "experiments$(COMMA)dev$(COMMA)notebooks" in (ROOT / "Makefile").read_text()


def test_sparsify_needs_no_more(wheel, tmp_path):
    code = f"""
import torch, sparse_rnn
from sparse_rnn import sparsify
assert sparse_rnn.__file__.startswith({str(wheel)!r}), sparse_rnn.__file__
for method in ("selfish", "set", "rigl", "snfs", "dsr", "gmp", "st_rnn", "static_er", "static_uniform"):
    model = torch.nn.LSTM(4, 8)
    optimizer = torch.optim.Adam(model.parameters())
    sparsifier = sparsify(model, optimizer, sparsity=0.5, steps=20, method=method, update_interval=5)
    for _ in range(20):
        output, _ = model(torch.randn(3, 2, 4))
        optimizer.zero_grad()
        output.square().mean().backward()
        sparsifier.before_step()
        optimizer.step()
        sparsifier.after_step()
    sparsifier.check()
    sparsifier.load_state_dict(sparsifier.state_dict())
    assert "is not installed, and the kernels need it: pip install" in sparsifier.backend_reason
    print(sparsifier)
del sparsifier
try:
    sparsify(model, optimizer, sparsity=0.5, steps=20, update_interval=5, backend="sparse")
except sparse_rnn.ConfigError as error:
    print(error)
for name in sparse_rnn.__all__:
    getattr(sparse_rnn, name)
"""
    done = run(wheel, tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 20 of 20, no further update>") == 9
    advice = r"pip install 'sparse-rnn\[kernels\]' brings it\."
    assert re.search(rf"^\w+ is not installed, and the kernels need it: {advice}$", done.stdout, re.MULTILINE)


def test_the_extra_for_kernels_is_all_that_they_need(wheel, tmp_path):
    code = """
import torch
from sparse_rnn import sparsify
model = torch.nn.LSTM(4, 8)
sparsifier = sparsify(model, torch.optim.Adam(model.parameters()), sparsity=0.5, steps=2000, backend="sparse")
print(sparsifier.backend_reason)
"""
    done = run(wheel, tmp_path, code, *IMPORTED_FOR_KERNELS)
    assert (done.returncode, done.stdout) == (0, "as requested\n"), done.stderr


ARGUMENTS = {
    "data": ["ptb"],
    "demo": [],
    "describe": ["model=rhn"],
    "evaluate": ["run=none"],
    "export": ["run=none"],
    "extract": ["run=none"],
    "generate": ["run=none"],
    "kernels": [],
    "launch": ["plan", "table2"],
    "results": ["table", "table1"],
    "train": ["budget=smoke"],
    "watch": ["run=none"],
}
WITHOUT = {"evaluate", "export", "extract", "generate", "watch"}  # they first look for the run, which needs no package


@pytest.mark.parametrize("command", [command for command in COMMANDS if command != "doctor"])
@pytest.mark.parametrize("module", ["sparse_rnn", "own"])
def test_a_command_names_the_extra(wheel, tmp_path, command, module):
    """Both `python -m sparse_rnn COMMAND` and `python -m sparse_rnn.COMMAND`."""
    words = [command, *ARGUMENTS[command]] if module == "sparse_rnn" else ARGUMENTS[command]
    target = "sparse_rnn" if module == "sparse_rnn" else f"sparse_rnn.{command}"
    code = f"sys.argv = ['x', *{words!r}]\nrunpy.run_module({target!r}, run_name='__main__', alter_sys=True)"
    done = run(wheel, tmp_path, code)
    assert done.returncode == 2, done.stderr
    [sentence] = done.stderr.splitlines()
    if command in WITHOUT:
        assert sentence.startswith("error: run=none does not exist")
    else:
        advice = r"and the commands need it: pip install 'sparse-rnn\[experiments\]' brings it\."
        assert re.fullmatch(rf"error: \w+ is not installed, {advice}", sentence), sentence
    assert not any(tmp_path.iterdir())


def test_the_doctor_names_it_and_goes_on(wheel, tmp_path):
    done = run(wheel, tmp_path, "runpy.run_module('sparse_rnn.doctor', run_name='__main__', alter_sys=True)")
    assert (done.returncode, done.stderr) == (1, ""), done.stderr
    [found] = re.findall(r"^FAIL commands +no command works without (.*)\n +-> (.*)", done.stdout, re.MULTILINE)
    assert {*found[0].split(", ")} <= IMPORTED
    assert found[1] == "pip install 'sparse-rnn[experiments]'; sparsify() works without"


@pytest.mark.parametrize("command", [*COMMANDS, ""])
def test_help_needs_no_extra(wheel, tmp_path, command):
    if command in ("launch", "results"):
        pytest.skip("their help lists the tables, which the extra reads")
    words = [command, "--help"] if command else ["--help"]
    code = f"sys.argv = ['x', *{words!r}]\nrunpy.run_module('sparse_rnn', run_name='__main__', alter_sys=True)"
    done = run(wheel, tmp_path, code)
    assert done.returncode == 0, done.stderr
    assert done.stdout

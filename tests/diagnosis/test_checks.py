"""The checks of this process, with one thing broken for each."""

import sys
from types import SimpleNamespace

import pytest

from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.extras import IMPORTED
from sparse_rnn.diagnosis import computing, folders, packages, services
from sparse_rnn.diagnosis.finding import Finding, State, check


def raising(error):
    def look():
        raise error

    return look


@pytest.mark.parametrize(("needed", "state"), [(True, State.FAILED), (False, State.NOTE)])
def test_what_a_check_raises_is_a_finding(needed, state):
    made = check("thing", needed=needed, otherwise="mend it")
    assert made(raising(OSError(5, "it\nbroke")))() == Finding("OSError: [Errno 5] it", state, "mend it", "thing")
    assert made(raising(KeyError()))().text == "KeyError"
    named = made(raising(ConfigError("a is wrong: write b.")))()
    assert (named.text, named.advice, named.state) == ("cannot be used", "a is wrong: write b", state)


def test_packages_that_are_missing_are_named(monkeypatch):
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name in ("wandb", "yaml") else object())
    found = packages.commands()
    assert (found.state, found.text) == (State.FAILED, "no command works without wandb, yaml")
    assert found.advice.startswith("pip install 'sparse-rnn[experiments]'")


def installed(monkeypatch, requires):
    extras = SimpleNamespace(get_all=lambda key: ["onnx", "tables"])
    monkeypatch.setattr(packages, "_installed", lambda: SimpleNamespace(requires=requires, metadata=extras))


def test_versions_that_do_not_fit_are_named(monkeypatch):
    installed(monkeypatch, ["torch>=99", "numpy", "pandas<1; extra == 'experiments'", "none-such; extra == 'tables'"])
    found = packages.commands()
    assert found.state is State.FAILED
    assert " is " in found.text
    assert found.text.count(", not ") == 2
    assert "not >=99" in found.text


def test_an_extra_counts_once_all_of_it_is_there(monkeypatch):
    installed(monkeypatch, ["onnx; extra == 'onnx'", "numpy; extra == 'tables'", "none-such; extra == 'tables'"])
    assert packages.extras() == Finding("onnx; not installed: tables", name="extras")


def test_a_package_that_cannot_be_imported_is_named(monkeypatch, tmp_path):
    (tmp_path / "pooch.py").write_text("raise ImportError('libpooch.so is missing')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pooch", raising=False)
    monkeypatch.setattr(packages, "IMPORTED", {"pooch"})
    found = packages.imports()
    assert (found.state, found.text) == (State.FAILED, "pooch: libpooch.so is missing")
    assert "pooch" in IMPORTED


@pytest.mark.parametrize("place", ["file/runs", "file", "/proc/runs"])
def test_a_folder_that_takes_no_files_is_named(monkeypatch, tmp_path, place):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPARSE_RNN_RUNS", str(tmp_path / place))
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path / place))
    runs, data = folders.runs(), folders.data()
    assert (runs.state, data.state) == (State.FAILED, State.NOTE)
    assert "takes no files (" in runs.text
    assert "SPARSE_RNN_RUNS" in runs.advice
    assert "SPARSE_RNN_DATA" in data.advice


def test_folders_stay_as_they_are(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSE_RNN_RUNS", str(tmp_path / "a" / "runs"))
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path / "a" / "data"))
    assert folders.runs().state is folders.data().state is State.OK
    assert not any(tmp_path.iterdir())


def test_a_full_disk_is_named(monkeypatch):
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    found = folders.runs()
    assert (found.state, "0 GB free" in found.text) == (State.NOTE, True)


def test_data_sets_that_are_there_are_listed(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSE_RNN_DATA", str(tmp_path))
    for name, file in (("ptb", "train.txt"), ("imdb", ".download.lock"), ("mine", "a.txt")):
        (tmp_path / name).mkdir()
        (tmp_path / name / file).touch()
    assert folders.data() == Finding(f"{tmp_path}: ptb", name="data")


def test_a_folder_of_configuration_that_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSE_RNN_CONF", str(tmp_path / "none"))
    assert folders.configuration().state is State.FAILED
    assert f"{tmp_path}/none" in folders.configuration().advice


def program(folder, name, text):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def test_slurm_that_is_not_there_answers_or_fails(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert services.slurm().text == "no sbatch here, so launch uses this machine (cluster=local)"
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    program(tmp_path, "sbatch", "echo slurm 23.11.4")
    assert services.slurm().text == "slurm 23.11.4, in job 7: launch with cluster=slurm"
    program(tmp_path, "sbatch", "echo no controller >&2; exit 1")
    assert services.slurm() == Finding("sbatch fails (no controller)", State.NOTE, "use cluster=local", "SLURM")
    monkeypatch.setattr(services, "SLURM_SECONDS", 0.1)
    program(tmp_path, "sbatch", "exec /bin/sleep 5")
    assert services.slurm().text.startswith("TimeoutExpired")


def test_a_key_of_wandb_is_found_where_it_may_be(monkeypatch, tmp_path):
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    assert "run `wandb login` first" in services.wandb().text
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password " + 40 * "x")
    assert "a key is there" in services.wandb().text
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert "run `wandb login` first" in services.wandb().text
    monkeypatch.setenv("WANDB_API_KEY", 40 * "x")
    monkeypatch.setenv("WANDB_MODE", "online")
    assert "a key is there" in services.wandb().text
    assert services.wandb().advice.startswith("WANDB_MODE=online is ignored")


@pytest.mark.parametrize("compiler", ["none", "/bin/false"])
def test_a_compiler_that_does_not_run(monkeypatch, compiler):
    monkeypatch.setenv("CXX", compiler)
    found = computing.compiler()
    assert (found.state, found.text) == (State.NOTE, f"CXX={compiler} does not run here")
    assert "install g++" in found.advice


def test_a_compiler_without_headers(monkeypatch, tmp_path):
    monkeypatch.setattr(computing.sysconfig, "get_path", lambda name, scheme: str(tmp_path))
    found = computing.compiler()
    assert found.state is State.NOTE
    assert "Python.h" in found.text


def test_kernels_that_are_not_compiled_and_cannot_be_kept(monkeypatch, tmp_path):
    monkeypatch.setenv("SPARSE_RNN_CACHE", str(tmp_path))
    assert computing.kernels().text == "not compiled yet"
    (tmp_path / "kernels").touch()
    assert "takes no files" in computing.kernels().text
    assert "SPARSE_RNN_CACHE" in computing.kernels().advice
    monkeypatch.setenv("CXX", "none")
    assert computing.kernels().advice.startswith("CXX=none is not a C++ compiler that runs here: install g++")


def test_a_gpu_that_torch_cannot_use_is_a_note(monkeypatch, tmp_path):
    assert computing.device().state is State.OK
    program(tmp_path, "nvidia-smi", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = computing.device()
    assert (found.state, "finds no GPU" in found.advice) == (State.NOTE, True)

"""What `make setup` and `make demo` say while they install."""

import importlib.util
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "scripts" / "install.py"
spec = importlib.util.spec_from_file_location("install_script", SCRIPT)
script = importlib.util.module_from_spec(spec)
spec.loader.exec_module(script)


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("Collecting hydra-core<1.4,>=1.3.8 (from sparse-rnn==0.2.0)", "looking for hydra-core<1.4,>=1.3.8"),
        ("  Downloading torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl (180.2 MB)", "downloading torch (180.2 MB)"),
        ("Processing ./wheels/numpy-2.4.6-cp311-cp311-linux_x86_64.whl (from torch)", "reading numpy"),
        ("  Building wheel for antlr4-python3-runtime (pyproject.toml): started", "building antlr4-python3-runtime"),
        ("Installing collected packages: a, b, c", "installing 3 packages"),
        ("     | 652.0 kB 10.1 MB/s", ""),
    ],
)
def test_lines_of_pip_are_said_in_words(line, words):
    assert script.in_words(line) == words


def test_a_file_gets_one_line_for_each_step_and_a_terminal_what_it_is_at():
    for stream in (io.StringIO(), Terminal()):
        progress = script.Progress(stream, steps=2)
        progress.step("one")
        progress.at("looking for torch")
        progress.step("two")
        progress.end()
        shown = re.sub(r"\r\x1b\[K.*?(?=\r)", "", stream.getvalue()).replace("\r\x1b[K", "")
        assert shown == "set-up 1/2    0 s  one\nset-up 2/2    0 s  two\nset-up done in 0 s\n"
        assert ("looking for torch" in stream.getvalue()) is stream.isatty()


def test_a_quiet_process_still_ticks(monkeypatch):
    monkeypatch.setattr(script, "TICK", 0.05)
    command = [sys.executable, "-c", "import time; print('a', flush=True); time.sleep(0.3); print('b')"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, encoding="utf-8") as process:
        lines = list(script.lines_of(process))
    assert [line for line in lines if line] == ["a\n", "b\n"]
    assert lines[lines.index("a\n") + 1] == ""


def set_up(folder, extras, **environment):
    command = [sys.executable, str(SCRIPT), str(folder), extras]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)


@pytest.mark.documented
def test_what_pip_says_is_shown_if_it_fails(tmp_path):
    done = set_up(tmp_path / "venv", "kernels", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path))
    assert done.returncode == 1
    assert "error: the set-up failed, and pip said:" in done.stderr
    assert "No matching distribution found for" in done.stderr


@pytest.mark.documented
def test_a_set_up_says_its_steps_and_leaves_what_the_doctor_finds(tmp_path):
    done = set_up(tmp_path / "venv", "kernels")
    assert done.returncode == 0, done.stderr
    lines = re.sub(r" +\d+ s", " N s", re.sub(r"\d+ packages", "N packages", done.stderr)).splitlines()
    assert lines == [
        f"set-up 1/3 N s  making {tmp_path / 'venv'} with {sys.executable}",
        "set-up 2/3 N s  choosing and downloading packages (torch is the largest)",
        "set-up 3/3 N s  installing N packages",
        "set-up done in N s",
    ]
    doctor = [tmp_path / "venv" / "bin" / "sparse-rnn", "doctor"]
    found = subprocess.run(doctor, cwd=tmp_path, env=os.environ | {"PYTHONPATH": ""}, capture_output=True, text=True)
    assert re.findall(r"^FAIL (\S+)", found.stdout, re.MULTILINE) == ["commands"]
    assert "extras         kernels; not installed: " in found.stdout

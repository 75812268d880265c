"""The kernels under other compilers and for other processors: their headers, and the operators where they can run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sparse_rnn.backends.cpu import toolchain
from sparse_rnn.backends.cpu.compile import CSRC, Library

PROGRAM = Path(__file__).parent / "headers.cpp"
TESTS = Path(__file__).parent.parent / "backends"
ARM = ["qemu-aarch64", "-L", "/usr/aarch64-linux-gnu"]
BUILDS = {  # compiler and flags, what runs the program, and the instructions that it needs of this CPU
    "g++": ("g++", [], ""),
    "g++ AVX2": ("g++ -march=x86-64-v3", [], "avx2"),
    "g++ AVX-512": ("g++ -march=x86-64-v4", [], "avx512vl"),
    "clang++": ("clang++", [], ""),
    "clang++ AVX2": ("clang++ -march=x86-64-v3", [], "avx2"),
    "clang++ AVX-512": ("clang++ -march=x86-64-v4", [], "avx512vl"),
    "ARM, g++": ("aarch64-linux-gnu-g++", ARM, ""),
    "ARM, clang++": ("clang++ --target=aarch64-linux-gnu", ARM, ""),
}
KERNELS = [
    "test_kernel_products.py",
    "test_kernel_recurrences.py",
    "test_kernel_results.py::test_threads_do_not_change_a_bit",
]
# How many threads a product on two of them starts.
STARTED = """
import os, torch
from sparse_rnn.backends.cpu.functions.products import linear
from sparse_rnn.backends.cpu.structure import Structure
structure = Structure(torch.ones(512, 512, dtype=torch.bool))
torch.set_num_threads(2)
before = len(os.listdir("/proc/self/task"))
linear(torch.ones(64, 512), torch.ones(512 * 512), structure)
print(len(os.listdir("/proc/self/task")) - before)
"""


def needed(*programs):
    """Skips the test unless all programs are here."""
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed: make test-portability installs it")


def run_tests(names):
    """In a process of their own: another library of the same operators cannot be loaded beside the first."""
    paths = [str(TESTS / name) for name in names]
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *paths], check=True
    )


@pytest.mark.parametrize("build", BUILDS)
def test_the_headers(build, tmp_path):
    compiler, runner, instructions = BUILDS[build]
    needed(compiler.split()[0], *(["aarch64-linux-gnu-g++", runner[0]] if runner else []))
    if instructions not in toolchain.cpu():
        pytest.skip(f"this CPU has no {instructions}")
    flags = ["-std=c++20", "-O2", "-Wno-psabi", f"-I{CSRC}", "-o", str(tmp_path / "headers")]
    subprocess.run([*compiler.split(), *flags, str(PROGRAM)], check=True)
    for size in [0] if runner else range(0, 64, 8):  # of the environment, which decides where the stack begins
        environment = os.environ | {"SIZE": "x" * size}
        command = [*runner, str(tmp_path / "headers")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.endswith(": 0 failures\n")


@pytest.mark.parametrize(("flags", "instructions"), [("", ""), ("-march=x86-64-v3", "avx2")])
def test_the_operators_with_shorter_vectors_or_none(flags, instructions, monkeypatch):
    if instructions not in toolchain.cpu():
        pytest.skip(f"this CPU has no {instructions}")
    monkeypatch.setenv("SPARSE_RNN_KERNEL_FLAGS", flags)
    run_tests([*KERNELS, "test_kernel_recurrent_modules.py"])


def test_the_operators_under_clang(tmp_path, monkeypatch):
    needed("clang++")
    monkeypatch.setenv("CXX", "clang++")
    monkeypatch.setenv("SPARSE_RNN_CACHE", str(tmp_path))
    monkeypatch.delenv("SPARSE_RNN_KERNEL_FLAGS", raising=False)
    library = Library(CSRC)
    assert b"clang" in library.compile().read_bytes()
    run_tests(KERNELS)
    started = subprocess.run([sys.executable, "-c", STARTED], check=True, capture_output=True, text=True).stdout
    assert started == "1\n"
    assert [path.name for path in library.folder.glob("*.so")] == [library.path.name]

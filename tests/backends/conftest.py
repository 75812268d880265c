"""Fixtures of the tests of the compiler: a tiny library in place of the kernels, in a cache of its own."""

import pytest
from compilers import REAL_COMPILER, TINY, Compiler


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty folder of compiled kernels, whose name has a space; skips without a compiler."""
    if REAL_COMPILER is None:
        pytest.skip("no C++ compiler")
    monkeypatch.setenv("SPARSE_RNN_CACHE", str(tmp_path / "ca che"))
    monkeypatch.delenv("SPARSE_RNN_KERNEL_FLAGS", raising=False)
    monkeypatch.delenv("CXX", raising=False)


@pytest.fixture
def sources(tmp_path):
    """A folder with the C++ of the tiny library."""
    folder = tmp_path / "csrc"
    folder.mkdir()
    (folder / "tiny.cpp").write_text(TINY)
    return folder


@pytest.fixture
def compiler_that(tmp_path, monkeypatch):
    """Makes the compiler that CXX names one that first runs a shell command, and counts."""

    def make(then=""):
        compiler = Compiler(tmp_path / "tools", then)
        monkeypatch.setenv("CXX", str(compiler.path))
        return compiler

    return make

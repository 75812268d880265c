"""What prevents compiling, or loading what was compiled, is one sentence that says what to do."""

import sys

import pytest
from compilers import TINY, refusal

from sparse_rnn import kernels as command
from sparse_rnn.backends.cpu import compile as compiling
from sparse_rnn.backends.cpu import toolchain
from sparse_rnn.backends.cpu.compile import KernelsUnavailable, Library, load

pytestmark = pytest.mark.usefixtures("own_cache")
LOGS = {
    "[1/2] c++ -c a.cpp\na.cpp:1:1: error: first\na.cpp:2:1: error: second\n": "(a.cpp:1:1: error: first)",
    "ld: warning: x\nld: cannot find -lx\ncollect2: error: ld returned 1\n": "(ld: cannot find -lx)",
    "[2/2] c++ a.o\nTraceback:\nImportError: undefined symbol: x\n": "(ImportError: undefined symbol: x)",
    "fatal error: error writing to x.s: No space left on device\n": "cannot be used (No space left on device): choose",
}


@pytest.mark.parametrize(
    ("compiler", "said"),
    [(None, "There is no C++ compiler"), ("missing", "CXX=missing is not a C++ compiler that runs here")],
)
def test_without_compiler(sources, tmp_path, monkeypatch, compiler, said):
    monkeypatch.setenv("PATH", str(tmp_path))
    if compiler:
        monkeypatch.setenv("CXX", compiler)
    library = Library(sources)
    assert library.find() is None
    assert refusal(library).startswith(f"{said}: install g++ (Debian: apt install g++), ")


def test_a_compiler_that_does_not_run_is_none(tmp_path, monkeypatch):
    broken = tmp_path / "c++"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    monkeypatch.setenv("CXX", str(broken))
    assert toolchain.find_compiler() == (None, "")


def test_without_the_headers_of_python(sources, tmp_path, monkeypatch):
    monkeypatch.setattr("sysconfig.get_path", lambda name, scheme: str(tmp_path))
    assert f"without {tmp_path / 'Python.h'}: install Python's headers" in refusal(Library(sources))


def test_a_compile_error_is_quoted_and_its_log_kept(sources):
    (sources / "tiny.cpp").write_text(f"int x = missing;\nint y = other;\n{TINY}")
    library = Library(sources)
    sentence = refusal(library)
    assert "tiny.cpp:1:9: error: " in sentence
    assert "other" not in sentence.partition(": see ")[0]
    assert f"see {library.log}" in sentence
    assert "tiny.cpp:2:9: error: " in library.log.read_text()
    assert {entry.name for entry in library.folder.iterdir()} == {"lock", library.log.name}


@pytest.mark.parametrize(("log", "said"), LOGS.items())
def test_those_who_waited_say_why_the_first_failed(sources, monkeypatch, log, said):
    library = Library(sources)

    class Lock:
        def __init__(self, path, timeout):
            pass

        def __enter__(self):
            library.log.write_text(log)

        def __exit__(self, *raised):
            pass

    monkeypatch.setattr(compiling, "FileLock", Lock)
    monkeypatch.setattr(Library, "_compile_in", None)
    assert said in refusal(library)


def test_a_folder_that_cannot_be_written(sources, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SPARSE_RNN_CACHE", str(tmp_path / "file"))
    library = Library(sources)
    assert library.find() is None
    assert "cannot be used (Not a directory): choose another with SPARSE_RNN_CACHE" in refusal(library)


def test_a_damaged_library_is_not_loaded(tmp_path):
    (tmp_path / "half.so").write_bytes(b"\x7fELF")
    with pytest.raises(KernelsUnavailable, match=r"cannot be loaded \(.*half.so.*\): remove .*half.so to have them"):
        load(tmp_path / "half.so")


def test_the_command_fails_in_a_sentence(sources, monkeypatch, capsys):
    monkeypatch.setattr(compiling, "CSRC", sources)
    monkeypatch.setattr(sys, "argv", ["kernels"])
    monkeypatch.setenv("CXX", "missing")
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: CXX=missing is not a C++ compiler")

"""Compiling on first use: once for many processes, again for another machine, and one sentence if it cannot be done."""

import multiprocessing
import os
import sys
from pathlib import Path

import pytest

from sparse_rnn import kernels as command
from sparse_rnn.backends.cpu import compile as compiling
from sparse_rnn.backends.cpu import toolchain
from sparse_rnn.backends.cpu.compile import NOTICE, KernelsUnavailable, Library, load

TINY = """
#include <Python.h>
static PyObject *avx(PyObject *, PyObject *) {
#ifdef __AVX__
  Py_RETURN_TRUE;
#else
  Py_RETURN_FALSE;
#endif
}
static PyMethodDef methods[] = {{"avx", avx, METH_NOARGS, ""}, {nullptr, nullptr, 0, nullptr}};
static PyModuleDef definition = {PyModuleDef_HEAD_INIT, "tiny", nullptr, -1, methods};
PyMODINIT_FUNC PyInit_sparse_rnn_kernels() { return PyModule_Create(&definition); }
"""
REAL_COMPILER, _ = toolchain.find_compiler()
pytestmark = pytest.mark.skipif(REAL_COMPILER is None, reason="no C++ compiler")
HAS_AVX = " avx " in toolchain.cpu()


class Compiler:
    """A program that notes each source it compiles, and does something before it hands on to the real compiler."""

    def __init__(self, folder, then=""):
        folder.mkdir()
        self.path, self.calls = folder / "c++", folder / "calls"
        self.calls.touch()
        self.path.write_text(
            f'#!/bin/sh\nPATH={os.environ["PATH"]}\ncase " $* " in *" -c "*) echo compiled >> {self.calls}\n{then}\n'
            f'esac\nexec {REAL_COMPILER} "$@"\n'
        )
        self.path.chmod(0o755)

    @property
    def compiled(self):
        return len(self.calls.read_text().splitlines())


class Gate:
    """Two pipes: on one the compiler says that it has begun, on the other it waits to be let on."""

    def __init__(self, folder):
        self.begun, self.on = folder / "begun", folder / "on"
        os.mkfifo(self.begun)
        os.mkfifo(self.on)
        self.then = f"timeout 60 sh -c 'echo > {self.begun}; read line < {self.on}'"

    def wait(self):
        self.begun.read_text()

    def open(self):
        self.on.write_text("\n")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SPARSE_RNN_CACHE", str(tmp_path / "ca che"))
    monkeypatch.delenv("SPARSE_RNN_KERNEL_FLAGS", raising=False)
    monkeypatch.delenv("CXX", raising=False)


@pytest.fixture
def sources(tmp_path):
    folder = tmp_path / "csrc"
    folder.mkdir()
    (folder / "tiny.cpp").write_text(TINY)
    return folder


@pytest.fixture
def compiler_that(tmp_path, monkeypatch):
    def make(then=""):
        compiler = Compiler(tmp_path / "tools", then)
        monkeypatch.setenv("CXX", str(compiler.path))
        return compiler

    return make


def use(sources, environment, connection):
    """What a process does that wants the library, writing to a pipe."""
    os.environ.update(environment)
    with os.fdopen(os.dup(connection.fileno()), "w", buffering=1) as sys.stderr:
        library = Library(sources)
        print(load(library.find() or library.compile()).avx(), file=sys.stderr)


def start_user(sources):
    """Another process that wants the library, and what it says."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["sparse_rnn.backends.cpu.compile"])
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=use, args=(sources, dict(os.environ), there))
    process.start()
    there.close()
    return process, os.fdopen(os.dup(here.fileno()))


def refusal(library):
    """The sentence with which compiling is refused."""
    with pytest.raises(KernelsUnavailable) as refused:
        library.compile()
    sentence = str(refused.value)
    assert sentence.endswith("or use sparsifier.backend=masked.")
    assert "\n" not in sentence
    return sentence


def test_compiles_once_for_this_cpu_and_leaves_the_library_only(sources, compiler_that, monkeypatch, capfd):
    compiler = compiler_that()
    monkeypatch.setenv("PATH", str(compiler.path.parent))  # where there is no ninja
    library = Library(sources)
    assert library.find() is None
    path = library.compile()
    assert load(path).avx() is HAS_AVX
    assert capfd.readouterr() == ("", NOTICE + "\n")
    assert {entry.name for entry in library.folder.iterdir()} == {path.name, "lock"}
    again = Library(sources)
    assert again.find() == again.compile() == path
    assert compiler.compiled == 1


def test_a_portable_build_has_no_vector_extensions(sources, monkeypatch):
    portable = Library(sources, portable=True)
    assert portable.folder != Library(sources).folder
    assert load(portable.compile()).avx() is False
    monkeypatch.setenv("SPARSE_RNN_KERNEL_FLAGS", "")
    assert Library(sources).find() == portable.path


def edit_source(sources, patch):
    (sources / "tiny.cpp").write_text(TINY + "// edited")


def add_header(sources, patch):
    (sources / "tiny.h").touch()


def other_compiler(sources, patch):
    patch.setattr(compiling, "find_compiler", lambda: ("/usr/bin/c++", "c++ 99"))


def other_cpu(sources, patch):
    patch.setattr(toolchain, "cpu", lambda: "flags: fpu")


def other_torch(sources, patch):
    patch.setattr("torch.__version__", "9.9")


def other_abi(sources, patch):
    patch.setattr("torch._C._GLIBCXX_USE_CXX11_ABI", "other")


def other_python(sources, patch):
    patch.setattr("sysconfig.get_config_var", lambda name: "cpython-399")


def other_c_library(sources, patch):
    patch.setattr("platform.libc_ver", lambda: ("glibc", "1.0"))


def other_flags(sources, patch):
    patch.setenv("SPARSE_RNN_KERNEL_FLAGS", "-march=native -mtune=native")


MACHINE = [other_compiler, other_cpu, other_torch, other_abi, other_python, other_c_library]


@pytest.mark.parametrize("change", [edit_source, add_header, other_flags, *MACHINE])
def test_each_ingredient_changes_where_the_library_is(sources, change):
    before = Library(sources).path
    assert Library(sources).path == before
    with pytest.MonkeyPatch.context() as patch:
        change(sources, patch)
        assert Library(sources).path != before


def test_another_cpu_shares_a_library_that_is_not_for_this_cpu(sources, monkeypatch):
    monkeypatch.setenv("SPARSE_RNN_KERNEL_FLAGS", "-march=x86-64-v3")
    for_some, for_all = Library(sources).path, Library(sources, portable=True).path
    monkeypatch.setattr(toolchain, "cpu", lambda: "flags: fpu")
    assert (Library(sources).path, Library(sources, portable=True).path) == (for_some, for_all)


def test_a_node_without_compiler_uses_what_another_made(sources, monkeypatch):
    made = Library(sources)
    made.folder.mkdir(parents=True)
    made.path.touch()
    monkeypatch.setenv("CXX", "missing")
    assert Library(sources).find() == made.path


def test_of_four_processes_one_compiles(sources, tmp_path, compiler_that):
    gate = Gate(tmp_path)
    compiler = compiler_that(gate.then)
    said = [start_user(sources)[1] for _ in range(4)]
    assert [text.readline() for text in said] == [NOTICE + "\n"] * 4  # all have found nothing, and will compile
    gate.wait()
    gate.open()
    assert [text.read() for text in said] == [f"{HAS_AVX}\n"] * 4
    assert compiler.compiled == 1


def test_nothing_of_a_killed_process_is_taken_for_a_library(sources, tmp_path, compiler_that, monkeypatch):
    gate = Gate(tmp_path)
    compiler_that(gate.then)
    library = Library(sources)
    killed, _ = start_user(sources)
    gate.wait()
    killed.kill()
    killed.join()
    assert library.find() is None
    assert len(list(library.folder.glob("*-*"))) == 1
    monkeypatch.setenv("CXX", REAL_COMPILER)
    assert load(Library(sources).compile()).avx() is HAS_AVX
    assert not list(library.folder.glob("*-*"))
    gate.open()


def test_only_folders_of_the_dead_are_removed(tmp_path):
    here, process, started = compiling._builder().split("-")
    names = {
        "alive": f"{here}-{process}-{started}-x",
        "reused": f"{here}-{process}-1-x",
        "foreign": f"elsewhere-{process}-1-x",
        "foreign and old": f"elsewhere-{process}-2-x",
    }
    for name in names.values():
        (tmp_path / name).mkdir()
    os.utime(tmp_path / names["foreign and old"], (0, 0))
    compiling.remove_left_behind(tmp_path)
    assert {entry.name for entry in tmp_path.iterdir()} == {names["alive"], names["foreign"]}


def test_a_file_system_without_locks_compiles_all_the_same(sources, monkeypatch):
    def no_lock(path, timeout):
        raise NotImplementedError

    monkeypatch.setattr(compiling, "FileLock", no_lock)
    assert load(Library(sources).compile()).avx() is HAS_AVX


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


LOGS = {
    "[1/2] c++ -c a.cpp\na.cpp:1:1: error: first\na.cpp:2:1: error: second\n": "(a.cpp:1:1: error: first)",
    "ld: warning: x\nld: cannot find -lx\ncollect2: error: ld returned 1\n": "(ld: cannot find -lx)",
    "[2/2] c++ a.o\nTraceback:\nImportError: undefined symbol: x\n": "(ImportError: undefined symbol: x)",
    "fatal error: error writing to x.s: No space left on device\n": "cannot be used (No space left on device): choose",
}


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


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({"SPARSE_RNN_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a/kernels"),
        ({"SPARSE_RNN_CACHE": "a"}, "{cwd}/a/kernels"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/sparse_rnn/kernels"),
        ({"HOME": "/c"}, "/c/.cache/sparse_rnn/kernels"),
    ],
)
def test_where_libraries_are_kept(environment, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", environment)
    assert compiling.cache_folder() == Path(folder.format(cwd=tmp_path))


def test_the_command_compiles_once_and_kernels_loads_that(sources, monkeypatch, capsys):
    monkeypatch.setattr(compiling, "CSRC", sources)
    monkeypatch.setattr(sys, "argv", ["kernels"])
    path = Library(sources).path
    command.main()
    assert capsys.readouterr().out.startswith(f"{path} compiled in ")
    command.main()
    assert capsys.readouterr() == (f"{path} was there\n", "")
    compiling.kernels.cache_clear()
    assert compiling.kernels().__file__ == str(path)
    assert compiling.kernels() is compiling.kernels()
    compiling.kernels.cache_clear()


def test_the_command_fails_in_a_sentence(sources, monkeypatch, capsys):
    monkeypatch.setattr(compiling, "CSRC", sources)
    monkeypatch.setattr(sys, "argv", ["kernels"])
    monkeypatch.setenv("CXX", "missing")
    with pytest.raises(SystemExit) as ended:
        command.main()
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("error: CXX=missing is not a C++ compiler")

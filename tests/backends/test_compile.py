"""Compiling on first use: once for many processes, and again for another machine."""

import multiprocessing
import os
import sys
from pathlib import Path

import pytest
import torch
from compilers import REAL_COMPILER, TINY, Gate

from sparse_rnn import kernels as command
from sparse_rnn.backends.cpu import compile as compiling
from sparse_rnn.backends.cpu import toolchain
from sparse_rnn.backends.cpu.compile import NOTICE, KernelsUnavailable, Library, load

pytestmark = pytest.mark.usefixtures("own_cache")
HAS_AVX = " avx " in toolchain.cpu()


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
    ("environment", "folder"),
    [
        ({"SPARSE_RNN_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a/kernels"),
        ({"SPARSE_RNN_CACHE": "a"}, "{cwd}/a/kernels"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/sparse_rnn/kernels"),
        ({"HOME": "/c"}, "/c/.cache/sparse_rnn/kernels"),
        ({"HOME": "/c", "XDG_CACHE_HOME": "relative"}, "/c/.cache/sparse_rnn/kernels"),
        ({"HOME": "/c", "SPARSE_RNN_CACHE": "~/d"}, "/c/d/kernels"),
    ],
)
def test_where_libraries_are_kept(environment, folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(os, "environ", environment)
    assert compiling.cache_folder() == Path(folder.format(cwd=tmp_path))


@pytest.mark.parametrize(
    "environment", [{"HOME": ""}, {"HOME": "relative"}, {"HOME": "~"}, {"SPARSE_RNN_CACHE": "~nobody-of-this-name/a"}]
)
def test_without_a_home_nothing_is_kept_in_the_current_folder(environment, sources, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("SPARSE_RNN_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    before = set(tmp_path.iterdir())
    with pytest.raises(KernelsUnavailable, match=r"There is no home folder .* name a folder with SPARSE_RNN_CACHE, or"):
        Library(sources)
    assert set(tmp_path.iterdir()) == before


def test_torch_and_sources_in_a_folder_with_any_name(sources, tmp_path, monkeypatch):
    """As in a virtual environment below such a folder: the compiling process finds torch there."""
    place = tmp_path / "it's (a) & b; caf\u00e9"
    place.mkdir()
    (place / "torch").symlink_to(Path(torch.__file__).parent)
    moved = sources.rename(place / "csrc")
    monkeypatch.setenv("PYTHONPATH", str(place))
    assert load(Library(moved).compile()).avx() is HAS_AVX


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

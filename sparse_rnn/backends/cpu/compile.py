"""The C++ of the kernels, compiled on first use and kept in a folder that many processes and machines may share.

The folder's name is a digest of the sources and of all that code must fit (toolchain.py), the file's name one of the
compiler. A library is complete or not there: it is compiled in a folder of its own and then renamed.
"""

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import ninja
from filelock import FileLock

from sparse_rnn.backends.cpu.toolchain import find_compiler, flags, openmp, runs_with
from sparse_rnn.core.errors import ConfigError
from sparse_rnn.core.processes import process_namespace, process_start

CSRC = Path(__file__).parent / "csrc"
NAME = "sparse_rnn_kernels"
PATIENCE_SECONDS = 600.0  # how long to wait for another process that compiles the same
FOREIGN_SECONDS = 86400.0  # after which the folder of a builder on another host counts as left behind
NOTICE = "Compiling the sparse kernels for this CPU, once (about a minute) ..."
OTHERWISE = "or use sparsifier.backend=masked"
# torch quotes every path but that of its own libraries.
BUILD = """
import json, shlex, sys
from torch.utils import cpp_extension
cpp_extension.TORCH_LIB_PATH = shlex.quote(cpp_extension.TORCH_LIB_PATH)
cpp_extension.load(**json.loads(sys.argv[1]))
"""


class KernelsUnavailable(ConfigError, RuntimeError):
    """The kernels cannot be compiled or loaded here."""


@cache
def kernels() -> ModuleType:
    """The extension module, compiled if it is not there yet; raises KernelsUnavailable."""
    library = Library(CSRC)
    return load(library.find() or library.compile())


def are_compiled() -> bool:
    """Whether `kernels` has nothing to compile here."""
    try:
        return Library(CSRC).find() is not None
    except KernelsUnavailable:
        return False


def load(path: Path) -> ModuleType:
    """The module in a shared library; raises KernelsUnavailable."""
    spec = spec_from_file_location(NAME, path, loader=ExtensionFileLoader(NAME, str(path)))
    assert spec is not None
    assert spec.loader is not None
    try:
        module = module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError as error:
        raise KernelsUnavailable(
            f"The compiled kernels cannot be loaded ({error}): remove {path} to have them compiled again, {OTHERWISE}."
        ) from None
    return module


class Library:
    """The library that the C++ files in `sources` become on this machine, at `path`; `portable`: see toolchain.flags.

    Libraries that other compilers have made of the same sources for the same machine lie beside it.
    """

    def __init__(self, sources: Path, portable: bool = False) -> None:
        self.sources, self.flags = sources, flags(portable)
        self.compiler, version = find_compiler()
        self.openmp = openmp(version)
        texts = [(path.name, path.read_text(encoding="utf-8")) for path in sorted(sources.iterdir()) if path.is_file()]
        self.folder = cache_folder() / _digest([texts, runs_with(self.flags)])
        self.path = self.folder / f"{_digest(version)}.so"
        self.log = self.folder / "compile.log"

    def find(self) -> Path | None:
        """The library if it is there; without a compiler here, one made by any compiler on a machine of this kind."""
        if self.compiler is None:
            return next(self.folder.glob("*.so"), None)
        return self.path if os.path.exists(self.path) else None  # Path.exists raises in a folder that we may not read

    def compile(self) -> Path:
        """Compile the library, or wait until another process has; raises KernelsUnavailable."""
        self.check()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with _notice():
                self._compile_once()
        except OSError as error:
            raise _unusable(self.folder, error) from None
        return self.path

    def check(self) -> None:
        """Raise KernelsUnavailable if there is no compiler or Python's headers are missing."""
        if self.compiler is None:
            named = os.environ.get("CXX")
            lacking = f"CXX={named} is not a C++ compiler that runs here" if named else "There is no C++ compiler"
            raise KernelsUnavailable(f"{lacking}: install g++ (Debian: apt install g++), {OTHERWISE}.")
        header = Path(sysconfig.get_path("include", "posix_prefix"), "Python.h")
        if not os.path.exists(header):
            raise KernelsUnavailable(
                f"The sparse kernels cannot be compiled without {header}: install Python's headers (Debian: apt "
                f"install python3-dev), {OTHERWISE}."
            )

    def _compile_once(self) -> None:
        """Of several processes, one compiles; the others take its library, or its failure."""
        failed_before = _changed(self.log)
        with ExitStack() as stack:
            with suppress(OSError, NotImplementedError):  # without locks all compile, and the last library stays
                stack.enter_context(FileLock(self.folder / "lock", timeout=PATIENCE_SECONDS))
            if self.path.exists():
                return
            if _changed(self.log) > failed_before:
                raise self._failure()
            remove_left_behind(self.folder)
            building = Path(tempfile.mkdtemp(prefix=f"{_builder()}-", dir=self.folder))
            stack.callback(shutil.rmtree, building, ignore_errors=True)
            self._compile_in(building)

    def _compile_in(self, building: Path) -> None:
        """Compile in `building`, in a process that also loads the library, then move the library to its place."""
        request = {
            "name": NAME,
            "sources": [str(path) for path in sorted(self.sources.glob("*.cpp"))],
            "extra_cflags": [*self.flags, *self.openmp],
            "extra_ldflags": self.openmp,
            "build_directory": str(building),
            "with_cuda": False,
            "verbose": True,
        }
        command = [sys.executable, "-P", "-c", BUILD, json.dumps(request)]
        done = subprocess.run(
            command, cwd=building, env=self._environment(building), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        if done.returncode:
            self.log.write_bytes(done.stdout)
            raise self._failure()
        made = building / f"{NAME}.so"
        with made.open("rb") as library:
            os.fsync(library.fileno())
        made.replace(self.path)

    def _environment(self, building: Path) -> dict[str, str]:
        """Variables for the compiling process: our ninja and compiler, and messages in English for `_failure`."""
        path = os.pathsep.join([ninja.BIN_DIR, os.environ.get("PATH", os.defpath)])
        return os.environ | {"PATH": path, "CXX": str(self.compiler), "TMPDIR": str(building), "LC_ALL": "C"}

    def _failure(self) -> KernelsUnavailable:
        """The first error in the compiler's log, as a sentence."""
        said = self.log.read_text(errors="replace")
        if os.strerror(errno.ENOSPC) in said:
            return _unusable(self.folder, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        errors = re.findall(r"^.*(?:\berror: |\bld: (?!warning)).*$", said, re.MULTILINE)
        reason = errors[0] if errors else said.strip().rpartition("\n")[2]
        return KernelsUnavailable(
            f"The sparse kernels cannot be compiled with {self.compiler} ({reason.strip()}): see {self.log}, name "
            f"another compiler with CXX, {OTHERWISE}."
        )


def cache_folder() -> Path:
    """Where compiled kernels are kept: below SPARSE_RNN_CACHE, or in `sparse_rnn` in the user's cache folder.

    Raises KernelsUnavailable if the user has none.
    """
    own = os.path.expanduser(os.environ.get("SPARSE_RNN_CACHE", ""))
    if own and not own.startswith("~"):  # which stays where there is no home
        return Path(own).absolute() / "kernels"
    home = "" if os.environ.get("HOME") == "" else os.path.expanduser("~")
    for folder in (os.environ.get("XDG_CACHE_HOME", ""), os.path.join(home, ".cache")):
        if os.path.isabs(folder) and not own:  # XDG's standard has relative ones ignored
            return Path(folder) / "sparse_rnn" / "kernels"
    raise KernelsUnavailable(
        f"There is no home folder to keep compiled kernels in: name a folder with SPARSE_RNN_CACHE, {OTHERWISE}."
    )


def _unusable(folder: Path, error: OSError) -> KernelsUnavailable:
    return KernelsUnavailable(
        f"The folder of compiled kernels, {folder}, cannot be used ({error.strerror or error}): choose another with "
        f"SPARSE_RNN_CACHE, {OTHERWISE}."
    )


@contextmanager
def _notice() -> Iterator[None]:
    """Say that something is being compiled: on a terminal as long as it is."""
    from rich.console import Console  # only here: who finds the kernels compiled need not wait for it

    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(NOTICE):
            yield
    else:
        print(NOTICE, file=sys.stderr, flush=True)
        yield


def _builder() -> str:
    """A name for this process: where it runs (host and container), its number, and when it started."""
    return f"{_digest([socket.gethostname(), process_namespace()])}-{os.getpid()}-{process_start(os.getpid())}"


def remove_left_behind(folder: Path) -> None:
    """Remove the folders of builders that were killed."""
    here = _builder().partition("-")[0]
    for building in folder.glob("*-*-*-*"):
        place, process, started, _ = building.name.split("-", 3)
        gone = process_start(int(process)) != started if place == here else _age(building) > FOREIGN_SECONDS
        if gone:
            shutil.rmtree(building, ignore_errors=True)


def _age(path: Path) -> float:
    return time.time() - _changed(path) / 1e9


def _changed(path: Path) -> int:
    """When a file was last modified, in nanoseconds; 0 if it does not exist."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]

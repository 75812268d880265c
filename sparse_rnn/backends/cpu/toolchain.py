"""What determines compiled code and where it can run: compiler, flags, CPU, torch, Python, C library."""

import os
import platform
import shlex
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

COMPILERS = ("c++", "g++", "clang++")
NATIVE = "-march=native" if platform.machine() in ("x86_64", "AMD64", "i686") else "-mcpu=native"
CPU_LINES = {"vendor_id", "cpu family", "model", "model name", "flags"}  # of /proc/cpuinfo on x86
CPU_LINES |= {"CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features", "cpu", "features", "isa"}


def flags(portable: bool) -> list[str]:
    """Flags for the compiler; torch adds its -std.

    portable: only the vector extensions that every CPU of the architecture has (x86-64: SSE2). Otherwise those of this
    CPU (-march=native), or what the variable SPARSE_RNN_KERNEL_FLAGS says instead.
    """
    for_cpu = "" if portable else os.environ.get("SPARSE_RNN_KERNEL_FLAGS", NATIVE)
    return ["-O3", *shlex.split(for_cpu)]


def openmp(version: str) -> list[str]:
    """The flag that gives a compiler with this text of its version torch's threads.

    clang does without it. On Linux, csrc/threads.h takes its place. On macOS there are no threads then (never tried).
    """
    return [] if sys.platform == "darwin" or "clang" in version else ["-fopenmp"]


def find_compiler() -> tuple[str | None, str]:
    """Path of the C++ compiler, which the variable CXX may name, and the text of its version; None without one."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    for path in filter(None, map(shutil.which, names)):
        command, environment = [path, "--version"], os.environ | {"LC_ALL": "C"}
        with suppress(OSError, subprocess.CalledProcessError):
            return path, subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout
    return None, ""


def runs_with(flags: Sequence[str]) -> list[object]:
    """What must be the same where code is compiled with these flags and where it runs."""
    return [
        *flags,
        cpu() if any("native" in flag for flag in flags) else platform.machine(),
        torch.__version__,
        torch._C._GLIBCXX_USE_CXX11_ABI,
        sysconfig.get_config_var("SOABI"),
        platform.libc_ver(),
    ]


def cpu() -> str:
    """Model and instructions of the CPU as Linux lists them; on other systems the host's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    telling = {line for line in lines if line.partition(":")[0].strip() in CPU_LINES}
    return "\n".join(sorted(telling)) or socket.gethostname()

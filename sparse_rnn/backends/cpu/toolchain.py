"""What decides how compiled code comes out, and where it runs: compiler, flags, CPU, torch, Python, C library."""

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
OPENMP = [] if sys.platform == "darwin" else ["-fopenmp"]  # Apple's compiler has none: one thread (never tried)
NATIVE = "-march=native" if platform.machine() in ("x86_64", "AMD64", "i686") else "-mcpu=native"
CPU_LINES = {"vendor_id", "cpu family", "model", "model name", "flags"}  # of /proc/cpuinfo; the next are other CPUs'

CPU_LINES |= {"CPU implementer", "CPU architecture", "CPU variant", "CPU part", "Features", "cpu", "features", "isa"}


def flags(portable: bool) -> list[str]:
    """What the compiler is told; torch adds its -std.

    portable: without vector extensions but those that each CPU of the architecture has (x86-64: SSE2). Otherwise for
    this CPU, or as the variable SPARSE_RNN_KERNEL_FLAGS says in place of -march=native.
    """
    for_cpu = "" if portable else os.environ.get("SPARSE_RNN_KERNEL_FLAGS", NATIVE)
    return ["-O3", *OPENMP, *shlex.split(for_cpu)]


def find_compiler() -> tuple[str | None, str]:
    """Path of the C++ compiler, which the variable CXX may name, and what it says of its version; None without one."""
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
    """Model and instructions of the CPU as Linux lists them; elsewhere the name of the host."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    telling = {line for line in lines if line.partition(":")[0].strip() in CPU_LINES}
    return "\n".join(sorted(telling)) or socket.gethostname()

"""What computes: torch and its device, the compiler, the kernels. Imports torch and loads compiled code."""

import os
import shutil
import subprocess
import sysconfig

from sparse_rnn.core.wording import counted
from sparse_rnn.diagnosis.finding import Finding, State, check
from sparse_rnn.diagnosis.folders import unwritable

COMPILE_SECONDS = 60
PROBE = "#include <Python.h>\n#include <vector>\n"
MASKED = "runs compute with masks until then"


@check("device", needed=True, otherwise="reinstall torch: pip install --force-reinstall torch")
def device() -> Finding:
    """The device that `device=auto` takes, after a first computation on it."""
    import torch

    from sparse_rnn.core.device import device_name, make_device

    chosen = make_device("auto")
    total = torch.ones(8, device=chosen).sum().item()
    if total != 8:
        return Finding(f"{chosen} adds eight ones to {total}", State.FAILED, "use another device, such as device=cpu")
    text = f"{chosen}: {device_name(chosen)}, {counted(torch.get_num_threads(), 'thread')}"
    if chosen.type == "cpu" and shutil.which("nvidia-smi"):
        built = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
        return Finding(text, State.NOTE, f"nvidia-smi is here, but torch {built} and finds no GPU: see docs/gpu.md")
    return Finding(text)


@check("compiler", needed=False, otherwise=f"name another C++ compiler with CXX; {MASKED}")
def compiler() -> Finding:
    """The C++ compiler, and whether it finds its own headers and Python's."""
    from sparse_rnn.backends.cpu.toolchain import find_compiler, openmp

    path, said = find_compiler()
    if path is None:
        named = os.environ.get("CXX")
        text = f"CXX={named} does not run here" if named else "no C++ compiler here"
        return Finding(text, State.NOTE, f"install g++ (Debian: apt install g++); {MASKED}")
    headers = sysconfig.get_path("include", "posix_prefix")
    command = [path, "-fsyntax-only", "-x", "c++", *openmp(said), "-I", headers, "-"]
    done = subprocess.run(command, input=PROBE, capture_output=True, text=True, timeout=COMPILE_SECONDS)
    if done.returncode:
        reason = next((line for line in done.stderr.splitlines() if "error" in line), "it failed").strip()
        return Finding(f"{path}: {reason}", State.NOTE, f"install its headers and Python's (python3-dev); {MASKED}")
    return Finding(f"{path}: {said.partition(chr(10))[0]}")


@check("kernels", needed=False, otherwise="use sparsifier.backend=masked")
def kernels() -> Finding:
    """Whether the kernels are compiled and can be loaded, or could be compiled."""
    from sparse_rnn.backends.cpu.compile import CSRC, Library, cache_folder, load

    library = Library(CSRC)
    if found := library.find():
        load(found)
        return Finding(f"compiled, in {found.parent}")
    library.check()
    if reason := unwritable(cache_folder()):
        return Finding(f"{cache_folder()} {reason}", State.NOTE, f"name a folder with SPARSE_RNN_CACHE; {MASKED}")
    return Finding("not compiled yet", State.NOTE, "`sparse-rnn kernels` does it now, and a run that gains does it")

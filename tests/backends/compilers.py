"""A tiny library to compile, and compilers that can be watched and held up."""

import os

import pytest

from sparse_rnn.backends.cpu import toolchain
from sparse_rnn.backends.cpu.compile import KernelsUnavailable

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


def refusal(library):
    """The sentence with which compiling is refused."""
    with pytest.raises(KernelsUnavailable) as refused:
        library.compile()
    sentence = str(refused.value)
    assert sentence.endswith("or use sparsifier.backend=masked.")
    assert "\n" not in sentence
    return sentence

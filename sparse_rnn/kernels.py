"""Compile the sparse kernels ahead: python -m sparse_rnn.kernels."""

import sys
import time

HELP = """\
Compile the sparse kernels for this CPU ahead of training, and say where they are.

  python -m sparse_rnn.kernels

They go to $SPARSE_RNN_CACHE/kernels (~/.cache/sparse_rnn/kernels); those already there are used. CXX names the
compiler. SPARSE_RNN_KERNEL_FLAGS stands in for -march=native: -march=x86-64-v3 suits nodes of several kinds, an empty
one any CPU of the architecture.
"""


def main() -> None:
    """Entry point."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(HELP, end="")
        return
    from sparse_rnn.core import command_line

    command_line.guard(compile_ahead)


def compile_ahead() -> None:
    """Compile and load; prints one line."""
    from sparse_rnn.backends.cpu.compile import CSRC, Library, load
    from sparse_rnn.core.command_line import parse_keys

    parse_keys(sys.argv[1:], {})
    library, start = Library(CSRC), time.monotonic()
    there = library.find()
    load(there or library.compile())
    print(f"{there} was there" if there else f"{library.path} compiled in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()

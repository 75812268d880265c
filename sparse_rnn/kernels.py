"""Compile the sparse kernels ahead of training: python -m sparse_rnn.kernels."""

import sys
import time

from sparse_rnn.core.command_line import parse_keys, start

HELP = """\
Compile the sparse kernels for this CPU ahead of training, and print where they are.

  python -m sparse_rnn.kernels

They go to $SPARSE_RNN_CACHE/kernels (~/.cache/sparse_rnn/kernels); kernels that are already there are reused. CXX
names the compiler. SPARSE_RNN_KERNEL_FLAGS replaces -march=native: -march=x86-64-v3 suits nodes of several kinds, an
empty value suits any CPU of the architecture.
"""


def main() -> None:
    """Entry point."""
    start(compile_ahead, lambda: HELP)


def compile_ahead() -> None:
    """Compile and load the kernels; prints one line."""
    parse_keys(sys.argv[1:], {})
    from sparse_rnn.backends.cpu.compile import CSRC, Library, load

    library, start = Library(CSRC), time.monotonic()
    found = library.find()
    load(found or library.compile())
    print(f"{found} was there" if found else f"{library.path} compiled in {time.monotonic() - start:.0f} s")


if __name__ == "__main__":
    main()

"""Memory that lasts, apart from what a step takes and gives back."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h

LASTING, STEPS = 1 << 20, 32 << 20

_inside = 0


@contextmanager
def lasting_memory() -> Iterator[None]:
    """For what changes structures: its large tensors get pages of their own from glibc, elsewhere nothing happens.

    Those that last then leave no holes between the buffers of steps, and those that do not are given back. Outside,
    buffers of up to 32 MB are taken from memory that the process keeps, for new pages in every step cost time.
    """
    global _inside
    if not _inside:
        _set_threshold(LASTING)
    _inside += 1
    try:
        yield
    finally:
        _inside -= 1
        if not _inside:
            _set_threshold(STEPS)
            with suppress(OSError, AttributeError):
                ctypes.CDLL(None).malloc_trim(0)


def _set_threshold(size: int) -> None:
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, size)
        mallopt(M_TRIM_THRESHOLD, 2 * STEPS)

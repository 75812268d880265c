"""Memory for what lasts, such as weights and structures, apart from that of the buffers of a step."""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager, suppress

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h

LASTING, STEPS = 1 << 20, 32 << 20  # bytes from which a tensor gets pages of its own

_depth = 0

# Both thresholds are needed. With 16 MB for steps, a step took 25 ms longer, because the system maps new pages for each
# buffer (docs/notes/kernels-diary.md). With 32 MB for lasting tensors, these would lie between the buffers of steps,
# and topology updates would leave holes there into which nothing fits.


@contextmanager
def lasting_memory() -> Iterator[None]:
    """Within it, new tensors of 1 MB and more get pages of their own; outside, only those above 32 MB.

    For code that builds or changes structures. Afterwards, unused memory is returned to the system. With another C
    library than glibc, this does nothing.
    """
    global _depth
    if not _depth:
        _set_threshold(LASTING)
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1
        if not _depth:
            _set_threshold(STEPS)
            with suppress(OSError, AttributeError):
                ctypes.CDLL(None).malloc_trim(0)


def _set_threshold(size: int) -> None:
    # Setting one threshold ends glibc's own adjustment of both, so both are set.
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, size)
        mallopt(M_TRIM_THRESHOLD, 2 * STEPS)

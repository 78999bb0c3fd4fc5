"""Keeps the memory that a training step frees for the next step, where the C library would not."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

# mallopt's parameters, and glibc's defaults, as <malloc.h> and mallopt(3) have them.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_KEPT = {_MMAP_MAX: 0, _TRIM_THRESHOLD: 2**31 - 1, _TOP_PAD: 64 * 2**20}
_DEFAULTS = {_MMAP_MAX: 65536, _TRIM_THRESHOLD: 128 * 2**10, _TOP_PAD: 128 * 2**10}


@contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Let this process keep freed memory meanwhile; on leaving it goes back to the system.

    glibc maps every large tensor afresh and unmaps it when it is freed, so that the kernel has to
    fill in its pages at every step. Where there is no glibc nothing changes.
    """
    library = ctypes.CDLL(None) if sys.platform == "linux" else None
    mallopt = getattr(library, "mallopt", None)
    if library is None or mallopt is None:  # musl has none either
        yield
        return
    for parameter, value in _KEPT.items():
        mallopt(parameter, value)
    try:
        yield
    finally:
        for parameter, value in _DEFAULTS.items():
            mallopt(parameter, value)
        library.malloc_trim(0)
